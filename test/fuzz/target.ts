export const TARGETS = ['requests', 'http2', 'worker', 'client'] as const
export type TargetName = (typeof TARGETS)[number]

/** What is attacked, and how. A case is its number: what is sent follows from that and the seed alone. */
export interface Target extends AsyncDisposable {
  /** How many cases are played at a time. */
  readonly lanes: number
  /** Plays a case to its end; tells how it was answered. Throws Broken where a rule is broken. */
  play(number: number): Promise<string>
  /** What a case sends. */
  bytes(number: number): Buffer
  /** Throws Broken where a rule was found broken by whatever has been played. */
  check(): void
  /** The same, of all that was played before: finds out. */
  prove(): Promise<void>
  /** When all cases have been played: throws Broken where anything is left of them. */
  rest(): Promise<void>
  /** What is attacked takes so much memory, in KiB. */
  readonly memory: { readonly fromKib: number; readonly mostKib: number }
}

/** A rule is broken; the message says which, and how. */
export class Broken extends Error {
  override readonly name = 'Broken'
}

/** Resolves with the value if it comes in time; throws Broken otherwise. */
export async function within<T>(ms: number, what: string, value: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Broken(`${what} after ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([value, late])
  } finally {
    clearTimeout(timer)
  }
}
