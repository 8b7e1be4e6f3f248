import { Random } from '../chaos/random.js'

/** What a client does in a case, and what becomes of the answers. */
export interface ClientCase {
  readonly call: 'apply' | 'burst' | 'map' | 'imap' | 'info' | 'functions' | 'own'
  /** What is mutated: messages, what stands around them, how streams end, or the frames of HTTP/2. */
  readonly change: 'message' | 'framing' | 'status' | 'ending' | 'frames'
  /** The client has never been answered before. */
  readonly isCold: boolean
  /** For the changes. */
  readonly random: Random
}

const SALT = 0x636c_6965

/** The calls of a client go one way or the other. */
export const transportOf = (number: number): 'stream' | 'unary' => (number % 2 === 0 ? 'stream' : 'unary')

export function clientCase(seed: number, number: number): ClientCase {
  const random = new Random(seed, SALT, number)
  return {
    call: random.weighted({ apply: 6, burst: 3, map: 3, imap: 2, info: 2, functions: 1, own: 1 }),
    change: random.weighted({ message: 8, framing: 2, status: 3, ending: 2, frames: 1 }),
    isCold: random.chance(0.2),
    random,
  }
}
