import { Random } from '../chaos/random.js'
import {
  callHeaders,
  END_STREAM,
  frameOf,
  goaway,
  headerBlock,
  openStream,
  PREFACE,
  ping,
  reset,
  settings,
  Type,
  windowUpdate,
} from '../support/http2.js'
import { frame } from '../support/raw-call.js'
import { mutateBytes, randomBytes } from './bytes.js'
import { RPCS, request } from './messages.js'

/** The bytes of one connection. */
export interface Http2Case {
  /** Sent one after another. */
  readonly pieces: readonly Buffer[]
  /** True: reads until a stream has ended. False: reads only until the server has seen all bytes. */
  readonly isPatient: boolean
}

const SALT = 0x6874_7470
const OPEN_MS = 300
const TYPES = Object.values(Type)
/** Values of settings and windows at or beyond the limits. */
const SIZES = [0, 1, 16_383, 16_384, 16_777_215, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1] as const

/** The case of this number. */
export function http2Case(seed: number, number: number): Http2Case {
  const random = new Random(seed, SALT, number)
  const frames = [PREFACE, settings(), frameOf(Type.SETTINGS, 1, 0), ...calls(random)]
  const isWhole = random.chance(0.1)
  for (let changes = isWhole ? 0 : random.between(1, 4); changes > 0; changes--) change(frames, random)
  const bytes = Buffer.concat(frames)
  const cut = random.between(0, bytes.length)
  const pieces = random.chance(0.1) ? [bytes.subarray(0, cut), bytes.subarray(cut)] : [bytes]
  return { pieces, isPatient: random.chance(0.3) }
}

/** Valid calls. */
function calls(random: Random): Buffer[] {
  return Array.from({ length: random.between(1, 3) }, (_, at) => {
    const stream = 2 * at + 1
    const rpc = random.chance(0.8)
      ? random.pick(['Apply', 'Map', 'IMap', 'Call', 'GetPool'] as const)
      : random.pick(RPCS)
    const headers = callHeaders(`/farpool.v1.PoolService/${rpc}`, { 'grpc-timeout': `${OPEN_MS}m` })
    const body = frame(request(rpc === 'OpenPool' ? 'Apply' : rpc, random))
    const middle = random.between(0, body.length)
    return [
      openStream(stream, random.chance(0.3) ? mutatedHeaders(headers, random) : headers),
      frameOf(Type.DATA, 0, stream, body.subarray(0, middle)),
      frameOf(Type.DATA, END_STREAM, stream, body.subarray(middle)),
    ]
  }).flat()
}

function mutatedHeaders(headers: [string, string][], random: Random): [string, string][] {
  const at = random.between(0, headers.length - 1)
  const [name, value] = headers[at] ?? ['', '']
  const text = (length: number) => randomBytes(random, length).toString('latin1')
  const put = random.pick<() => [string, string][]>([
    () => [],
    () => [
      [name, value],
      [name, value],
    ],
    () => [[name, text(random.between(0, 40))]],
    () => [[text(random.between(0, 20)), value]],
    () => [[name.toUpperCase(), value]],
    () => [[name, value.repeat(random.between(0, 2_000))]],
    () => [[name, value], random.pick(ODD)],
  ])()
  return [...headers.slice(0, at), ...put, ...headers.slice(at + 1)]
}

const ODD: readonly [[string, string], ...[string, string][]] = [
  ['content-length', '5'],
  ['content-length', '-1'],
  ['grpc-timeout', '99999999999H'],
  ['grpc-timeout', ''],
  ['grpc-encoding', 'gzip'],
  ['grpc-encoding', '\0'],
  ['grpc-accept-encoding', 'x'.repeat(300)],
  ['connection', 'close'],
  ['transfer-encoding', 'chunked'],
  ['upgrade', 'h2c'],
  [':path', '*'],
  [':status', '200'],
  ['x-bin', '!'],
  ['cookie', '='.repeat(5_000)],
]

/** Changes, inserts, removes or moves one frame. */
function change(frames: Buffer[], random: Random): void {
  // Frame 0, the connection preface, is changed rarely.
  const at = random.between(random.chance(0.1) ? 0 : 1, frames.length - 1)
  const whole = frames[at] as Buffer
  switch (random.weighted({ head: 5, bytes: 4, body: 4, odd: 5, drop: 1, again: 1, move: 1, many: 0.3 })) {
    case 'head':
      frames[at] = head(Buffer.from(whole), random)
      return
    case 'bytes':
      frames[at] = mutateBytes(whole, random)
      return
    case 'body':
      frames[at] = body(whole, random)
      return
    case 'odd':
      frames.splice(at, 0, odd(random))
      return
    case 'drop':
      frames.splice(at, 1)
      return
    case 'again':
      frames.splice(random.between(0, frames.length), 0, whole)
      return
    case 'move':
      frames.splice(random.between(0, frames.length - 1), 0, ...frames.splice(at, 1))
      return
    case 'many':
      frames.splice(at, 0, ...Array<Buffer>(random.between(50, 300)).fill(odd(random)))
  }
}

/** Changes the length, type, flags or stream of a frame's header. */
function head(whole: Buffer, random: Random): Buffer {
  if (whole.length < 9) return whole
  switch (random.between(0, 3)) {
    case 0:
      whole.writeUIntBE(random.pick([0, 1, 5, 8, 9, whole.length, whole.length + 9, 16_384, 16_385, 0xffffff]), 0, 3)
      break
    case 1:
      whole.writeUInt8(random.chance(0.8) ? random.between(0, 12) : random.between(0, 255), 3)
      break
    case 2:
      whole.writeUInt8(random.chance(0.7) ? 1 << random.between(0, 7) : random.between(0, 255), 4)
      break
    default:
      whole.writeUInt32BE(random.pick([0, 1, 2, 3, 5, 99, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 32 - 1]), 5)
  }
  return whole
}

/** Changes the body. The length in the header is right. */
function body(whole: Buffer, random: Random): Buffer {
  if (whole.length < 9) return whole
  const mutated = mutateBytes(whole.subarray(9), random).subarray(0, 16_384)
  return frameOf(whole.readUInt8(3), whole.readUInt8(4), whole.readUInt32BE(5), mutated)
}

/** An unexpected frame. */
function odd(random: Random): Buffer {
  const stream = random.pick([0, 1, 1, 3, 5, 7, 2])
  return random.pick<() => Buffer>([
    ping,
    () => settings({ [random.between(0, 9)]: random.pick(SIZES) }),
    () => windowUpdate(stream, random.pick(SIZES)),
    () => reset(stream, random.between(0, 14)),
    () => goaway(random.pick([0, 1, 2 ** 31 - 1]), random.between(0, 14)),
    () =>
      frameOf(random.pick([Type.PRIORITY, Type.PUSH_PROMISE, Type.CONTINUATION]), 4, stream, randomBytes(random, 5)),
    () => frameOf(random.between(0, 255), random.between(0, 255), stream, randomBytes(random, random.between(0, 30))),
    () => frameOf(Type.DATA, random.pick([0, 1, 8]), stream, randomBytes(random, random.between(0, 30))),
    () => frameOf(Type.HEADERS, random.pick([0, 4, 5, 32]), stream, headerBlock([['grpc-status', '0']])),
    () => frameOf(TYPES[random.between(0, TYPES.length - 1)] ?? 0, 0, stream),
  ])()
}
