export const TARGETS = ['requests', 'http2', 'worker', 'client'] as const
export type TargetName = (typeof TARGETS)[number]

/** A target of the fuzzer. A case is a number: its bytes depend only on the number and the seed. */
export interface Target extends AsyncDisposable {
  /** The number of cases that are played at a time. */
  readonly lanes: number
  /** Plays a case. Resolves with the answer, as text. Throws Broken if the case breaks a rule. */
  play(number: number): Promise<string>
  /** The bytes of a case. */
  bytes(number: number): Buffer
  /** Throws Broken if any case has broken a rule so far. */
  check(): void
  /** Like check(), after an active test of the target. */
  prove(): Promise<void>
  /** After the last case: throws Broken if the cases have left anything behind. */
  rest(): Promise<void>
  /** Resident memory of the target in KiB: at the start, and at most. */
  readonly memory: { readonly fromKib: number; readonly mostKib: number }
}

/** A rule is broken. The message says which one, and how. */
export class Broken extends Error {
  override readonly name = 'Broken'
}

/** Resolves with the value. Throws Broken after `ms` milliseconds. */
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
