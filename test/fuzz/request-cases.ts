import { gzipSync } from 'node:zlib'
import { ApplyRequest } from '../../proto/gen/farpool/routing/v1/routing.js'
import { encodePayload, type Kind } from '../../wire/values/payload.js'
import { Random } from '../chaos/random.js'
import { frame } from '../support/raw-call.js'
import { mutateBytes } from './bytes.js'
import { mutateMessage } from './fields.js'
import { callRequest, foreignTo, RPCS, type Rpc, request } from './messages.js'
import { plainValue } from './values.js'

/** The bytes and options of one RPC. */
export interface Sent {
  readonly rpc: Rpc
  readonly headers: Readonly<Record<string, string>>
  /** Sent one after another. */
  readonly pieces: readonly Buffer[]
  /** `end`: half-closes the stream. `open`: leaves it open until its deadline. `reset`: resets it. */
  readonly finish: 'end' | 'open' | 'reset'
  readonly timeoutMs: number
  /** The argument of `identity`, which must come back as its result. */
  readonly echo: Buffer | undefined
}

/** RPCs that are sent one after another. */
export type RequestCase = readonly Sent[]

const SALT = 0x7265_7173

/** The deadline of an RPC that needs not wait. Even a busy machine answers long before it. */
const ANSWERED_MS = 30_000
/** The deadline of an RPC that may get no answer. */
export const OPEN_MS = 300

const sent = (rpc: Rpc, pieces: readonly Buffer[], more: Partial<Sent> = {}): Sent => ({
  rpc,
  headers: {},
  pieces,
  finish: 'end',
  // These two RPCs stay open for as long as the pool lives.
  timeoutMs: rpc === 'OpenPool' || rpc === 'JoinPool' ? OPEN_MS : ANSWERED_MS,
  echo: undefined,
  ...more,
})

/** The case of this number. */
export function requestCase(seed: number, number: number): RequestCase {
  const random = new Random(seed, SALT, number)
  switch (random.weighted({ message: 50, framing: 15, echo: 20, conversation: 9, session: 6 })) {
    case 'message':
      return [mutatedMessage(random)]
    case 'framing':
      return [mutatedFraming(random)]
    case 'echo':
      return [mutatedEcho(random)]
    case 'conversation':
      return [conversation(random)]
    case 'session':
      return session(random, `fuzz-${seed}-${number}-`.padEnd(20, 'x'))
  }
}

/** A random RPC; OpenPool is rare, because it starts a process. */
const rpcOf = (random: Random): Rpc =>
  random.chance(0.6) ? random.pick(['Apply', 'Map', 'IMap', 'Call']) : random.chance(0.9) ? random.pick(RPCS) : 'Apply'

function mutatedMessage(random: Random): Sent {
  const rpc = rpcOf(random)
  return sent(rpc, [frame(mutateMessage(request(rpc, random), random, foreignTo(random)))])
}

/** Mutates the framing: the prefix of a gRPC message, its compression, or the number of messages. */
function mutatedFraming(random: Random): Sent {
  const rpc = rpcOf(random)
  const message = request(rpc, random)
  const whole = frame(message)
  const flagged = (bytes: Buffer, flag: number) => Buffer.concat([Buffer.of(flag), bytes.subarray(1)])
  const gzip = { 'grpc-encoding': 'gzip' }
  const open = { finish: random.pick<'end' | 'open'>(['end', 'open']), timeoutMs: OPEN_MS } as const
  const unended = { timeoutMs: OPEN_MS } as const
  const makers: readonly [() => Sent, ...(() => Sent)[]] = [
    () => sent(rpc, [flagged(whole, random.between(1, 255))], unended),
    () => sent(rpc, [flagged(frame(gzipSync(message)), 1)], { headers: gzip, ...unended }),
    () => sent(rpc, [flagged(frame(mutateBytes(gzipSync(message), random)), 1)], { headers: gzip, ...unended }),
    () =>
      sent(
        rpc,
        [frame(message, random.pick([0, 1, message.length - 1, message.length + 1, 2 ** 31, 2 ** 32 - 1]) >>> 0)],
        open,
      ),
    () => sent(rpc, [frame(message, Math.max(0, message.length + random.between(-9, 9)))], open),
    () => sent(rpc, Array(random.between(2, 9)).fill(whole), unended),
    () => sent(rpc, [whole.subarray(0, random.between(0, whole.length - 1))], open),
    () => sent(rpc, [mutateBytes(whole, random)], open),
    () => sent(rpc, [...whole].map((byte) => Buffer.of(byte)).slice(0, 200), unended),
    () => sent(rpc, [], open),
    () => sent(rpc, [whole, mutateBytes(whole, random)], open),
  ]
  return random.pick(makers)()
}

/** A mutated payload as the argument of `identity`. */
function mutatedEcho(random: Random): Sent {
  const kind = random.pick<Kind>(['json', 'cbor'])
  const whole = Buffer.from(encodePayload(plainValue(random), kind))
  const echo = random.chance(0.1)
    ? whole
    : random.chance(0.7)
      ? inside(whole, random)
      : mutateMessage(whole, random, [])
  const call = { pool: '', function: 'identity', args: [echo], kwargs: undefined, replyKind: 0, retries: 0 }
  const bytes = ApplyRequest.encode({ ...call, queueTimeoutMs: 0, runTimeoutMs: 0, requestId: '' }).finish()
  return sent('Apply', [frame(bytes)], { echo })
}

/** Mutates only the value inside the payload. */
function inside(payload: Buffer, random: Random): Buffer {
  // Handles values with a length of one byte, as most are.
  if (payload.length < 2 || payload.readUInt8(1) !== payload.length - 2) return mutateBytes(payload, random)
  const value = mutateBytes(payload.subarray(2), random)
  if (value.length > 127) return mutateBytes(payload, random)
  return Buffer.concat([payload.subarray(0, 1), Buffer.of(value.length), value])
}

/** Several messages on one stream of calls, some of them mutated. */
function conversation(random: Random): Sent {
  const messages = Array.from({ length: random.between(1, 5) }, (_, at) => {
    const message = callRequest(random, random.chance(0.9) ? 1 + 10 * at : 1)
    return frame(random.chance(0.4) ? mutateMessage(message, random, foreignTo(random)) : message)
  })
  const finish = random.weighted({ end: 6, open: 2, reset: 1 })
  return sent('Call', messages, finish === 'end' ? {} : { finish, timeoutMs: OPEN_MS })
}

/** A session: its stream breaks, and further streams resume it. */
function session(random: Random, id: string): RequestCase {
  const streams = random.between(1, 3)
  return Array.from({ length: streams }, (_, at) => {
    const resumed = random.chance(0.9) ? at > 0 : at === 0
    const opening = callRequest(random, 1, {
      groups: [],
      session: { id, resumed },
      received: at * random.between(0, 2),
    })
    const messages = Array.from({ length: random.between(0, 3) }, (_, message) =>
      callRequest(random, 1 + 100 * at + 10 * message, {
        received: random.chance(0.8) ? message : random.between(0, 2 ** 31),
        last: random.chance(0.2),
      }),
    )
    const pieces = [opening, ...messages].map((message) =>
      frame(random.chance(0.25) ? mutateMessage(message, random, foreignTo(random)) : message),
    )
    const isLast = at === streams - 1
    const finish = random.pick<Sent['finish']>(isLast ? ['end', 'open'] : ['end', 'open', 'reset', 'reset'])
    return sent('Call', pieces, { finish, timeoutMs: OPEN_MS })
  })
}
