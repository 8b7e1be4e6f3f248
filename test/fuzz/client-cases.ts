import { Random } from '../chaos/random.js'

/** The call that a client makes in a case, and the change of the server's replies. */
export interface ClientCase {
  readonly call: 'apply' | 'burst' | 'map' | 'imap' | 'info' | 'functions' | 'own'
  /** The part that is mutated: the message, its gRPC framing, the status, the end of the stream, or the HTTP/2 frames. */
  readonly change: 'message' | 'framing' | 'status' | 'ending' | 'frames'
  /** True: a new client, which has never had a reply. */
  readonly isCold: boolean
  /** The source of the changes. */
  readonly random: Random
}

const SALT = 0x636c_6965

/** Cases with even numbers use the stream transport, odd ones the unary transport. */
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
