/** A value that cannot be sent. The message names the place inside the value. */
export class EncodeError extends Error {
  override readonly name = 'EncodeError'
}

/** Bytes or text that are no value. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError'
}

/** What was thrown, in words. Never throws itself, whatever a getter or a Proxy of the user's has thrown. */
export function reasonOf(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown)
  } catch {
    return 'what was thrown cannot be printed'
  }
}

/** What ends an encoding: an EncodeError as it is; what a getter or a Proxy threw as the cause of one. */
export function toEncodeError(thrown: unknown, place: string): EncodeError {
  try {
    if (thrown instanceof EncodeError) return thrown
  } catch {
    // A Proxy that does not say what it is: no EncodeError.
  }
  return new EncodeError(`${place} cannot be read: ${reasonOf(thrown)}`, { cause: thrown })
}

/** The way from a value to a part of it, as it would be written: `value.rows[3].f`. */
export class Place {
  readonly #steps: (string | number)[] = []

  /** The part at this depth that is being looked at. */
  set(depth: number, step: string | number): void {
    this.#steps[depth] = step
  }

  /** The place of what is nested so deep. */
  at(depth: number): string {
    return this.#steps.slice(0, depth).reduce<string>((place, step) => {
      if (typeof step === 'number') return `${place}[${step}]`
      return /^[A-Za-z_$][\w$]*$/.test(step) ? `${place}.${step}` : `${place}[${JSON.stringify(step)}]`
    }, 'value')
  }
}

/** Containers may be nested so deep; what is deeper is more likely a mistake, or an attack, than data. */
export const MAX_DEPTH = 500

/** "a function", "a Promise", …: what something is, for messages. */
export function describeKind(value: unknown): string {
  if (typeof value !== 'object' || value === null) return `a ${typeof value}`
  const tag = tagOf(value)
  return /^[AEIO]/i.test(tag) ? `an ${tag}` : `a ${tag}`
}

function tagOf(value: object): string {
  try {
    return Object.prototype.toString.call(value).slice(8, -1)
  } catch {
    // A revoked Proxy, or a getter of Symbol.toStringTag that throws.
    return 'object'
  }
}
