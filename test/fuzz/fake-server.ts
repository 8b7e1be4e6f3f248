import { once } from 'node:events'
import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { Transform } from 'node:stream'
import { Status } from '../../proto/gen/google/rpc/status.js'
import type { Random } from '../chaos/random.js'
import { Relay } from '../chaos/relay.js'
import { Type } from '../support/http2.js'
import { frame } from '../support/raw-call.js'
import { mutateBytes, randomBytes } from './bytes.js'
import type { ClientCase } from './client-cases.js'
import { mutateMessage } from './fields.js'
import { foreignTo } from './messages.js'
import { isResumed, reply } from './replies.js'

const HEADERS = { ':status': 200, 'content-type': 'application/grpc+proto' }
/** An unfinished reply is cut off after this time: the client is allowed to wait for its end. */
const CUT_MS = 250
const CANCEL = 8

/** A server for one client. Its replies are right, except during a case, whose changes it applies. */
export class FakeServer implements AsyncDisposable {
  readonly #server: Http2Server
  #relay: Relay | undefined
  #case: ClientCase | undefined
  #cut: NodeJS.Timeout | undefined
  /** The bytes that were sent in the current case. */
  #sent: Buffer[] = []

  private constructor() {
    this.#server = createServer()
    this.#server.on('session', (session) => session.on('error', () => {}))
    this.#server.on('stream', (stream, headers) =>
      this.#serve(stream, String(headers[':path']).split('/').at(-1) ?? ''),
    )
  }

  static async start(): Promise<FakeServer> {
    const fake = new FakeServer()
    fake.#server.listen(0, '127.0.0.1')
    await once(fake.#server, 'listening')
    const { port } = fake.#server.address() as AddressInfo
    fake.#relay = await Relay.open({ host: '127.0.0.1', port }, () => fake.#change())
    return fake
  }

  get address(): string {
    return this.#relay?.address ?? ''
  }

  get sent(): Buffer {
    return Buffer.concat(this.#sent)
  }

  begin(played: ClientCase): void {
    this.#case = played
    this.#sent = []
  }

  /** Ends the case: all further replies are right. Cuts connections whose frames were mutated. */
  end(): void {
    if (this.#case?.change === 'frames') this.#relay?.cut()
    this.#case = undefined
    clearTimeout(this.#cut)
    this.#cut = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#cut)
    await this.#relay?.[Symbol.asyncDispose]()
    this.#server.close()
  }

  #serve(stream: ServerHttp2Stream, rpc: string): void {
    let received = Buffer.alloc(0)
    stream.on('error', () => {})
    stream.on('data', (part: Buffer) => {
      received = Buffer.concat([received, part])
      while (received.length >= 5 && received.length >= 5 + received.readUInt32BE(1)) {
        const length = 5 + received.readUInt32BE(1)
        this.#answer(stream, rpc, received.subarray(5, length))
        received = received.subarray(length)
      }
    })
  }

  #answer(stream: ServerHttp2Stream, rpc: string, message: Buffer): void {
    // This server keeps no outcomes, so a session cannot be resumed.
    if (isResumed(rpc, message)) return fail(stream, [], { 'grpc-status': '5' })
    const right = reply(rpc, message)
    if (!right || stream.writableEnded || stream.closed || stream.destroyed) return
    const played = this.#case
    if (!played || played.change === 'frames') return send(stream, rpc, [frame(right)])
    const { random, change } = played
    const pieces = piecesOf(right, change, random)
    this.#sent.push(...pieces)
    this.#cutLate(stream)
    if (change === 'status') return fail(stream, random.chance(0.5) ? pieces : [], statusOf(random))
    send(stream, rpc, pieces)
    if (change === 'ending' && random.chance(0.7)) stream.close(random.between(1, 13))
  }

  /** Closes the stream after CUT_MS, in case the client waits for more. */
  #cutLate(stream: ServerHttp2Stream): void {
    const timer = setTimeout(() => stream.close(CANCEL), CUT_MS)
    stream.once('close', () => clearTimeout(timer))
  }

  /**
   * Passes the frames of the server on, mutated if the case says so. It mutates nothing before the first reply: Node 20
   * does not notice the end of a connection after a frame of a wrong size, and grpc-js has no keepalive while it connects.
   */
  #change(): Transform {
    let rest = Buffer.alloc(0)
    let isUp = false
    return new Transform({
      transform: (bytes: Buffer, _, done) => {
        rest = Buffer.concat([rest, bytes])
        const frames: Buffer[] = []
        while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
          const length = 9 + rest.readUIntBE(0, 3)
          const whole = rest.subarray(0, length)
          isUp ||= whole.readUInt8(3) === Type.HEADERS
          frames.push(isUp ? this.#pass(whole) : whole)
          rest = rest.subarray(length)
        }
        done(null, Buffer.concat(frames))
      },
    })
  }

  #pass(whole: Buffer): Buffer {
    const played = this.#case
    if (played?.change !== 'frames' || !played.random.chance(0.5)) return whole
    const changed = mutateFrame(whole, played.random)
    this.#sent.push(changed)
    this.#cut ??= setTimeout(() => {
      this.#cut = undefined
      this.#relay?.cut()
    }, CUT_MS)
    return changed
  }
}

function mutateFrame(whole: Buffer, random: Random): Buffer {
  const changed = Buffer.from(whole)
  switch (random.between(0, 5)) {
    case 0:
      return mutateBytes(changed, random)
    case 1:
      changed.writeUInt8(random.between(0, 12), 3)
      return changed
    case 2:
      changed.writeUInt8(random.between(0, 255), 4)
      return changed
    case 3:
      changed.writeUInt32BE(random.pick([0, 1, 2, 3, 99, 2 ** 31 - 1, 2 ** 32 - 1]), 5)
      return changed
    case 4:
      changed.writeUIntBE(random.pick([0, 1, whole.length, 0xffffff]), 0, 3)
      return changed
    default:
      return random.chance(0.5) ? Buffer.alloc(0) : Buffer.concat([whole, whole])
  }
}

/** Sends a reply, and ends the stream with status 0 if the RPC is not long-lived. */
function send(stream: ServerHttp2Stream, rpc: string, pieces: readonly Buffer[]): void {
  respond(stream, { 'grpc-status': '0' })
  for (const piece of pieces) stream.write(piece)
  if (rpc !== 'Call' && rpc !== 'OpenPool') stream.end()
}

function fail(stream: ServerHttp2Stream, pieces: readonly Buffer[], trailers: Record<string, string>): void {
  respond(stream, trailers)
  for (const piece of pieces) stream.write(piece)
  stream.end()
}

function respond(stream: ServerHttp2Stream, trailers: Record<string, string>): void {
  if (stream.headersSent) return
  stream.respond(HEADERS, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers(trailers))
  stream.once('end', () => stream.end())
}

/** The bytes to send instead of one gRPC message. */
function piecesOf(right: Buffer, change: ClientCase['change'], random: Random): Buffer[] {
  const whole = frame(right)
  if (change === 'message') return [frame(mutateMessage(right, random, foreignTo(random)))]
  if (change !== 'framing') return [whole]
  return random.pick<() => Buffer[]>([
    () => [mutateBytes(whole, random)],
    () => [whole, whole],
    () => [],
    () => [frame(right, random.pick([0, 1, right.length + 1, 2 ** 31, 2 ** 32 - 1]))],
    () => [Buffer.concat([Buffer.of(random.between(1, 255)), whole.subarray(1)])],
    () => [whole, mutateBytes(whole, random)],
    () => [whole.subarray(0, random.between(0, whole.length - 1))],
    () => [...whole].map((byte) => Buffer.of(byte)),
  ])()
}

/** The largest details that fit into the headers which Node sends. */
const MOST_DETAILS = 20_000

const ERROR_INFO = 'type.googleapis.com/google.rpc.ErrorInfo'
const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo'
const REMOTE_ERROR = 'type.googleapis.com/farpool.v1.RemoteError'

/** The trailers of a failure, partly invalid. */
function statusOf(random: Random): Record<string, string> {
  const details = [ERROR_INFO, RETRY_INFO, REMOTE_ERROR].filter(() => random.chance(0.5))
  const status = Status.encode({
    code: random.between(0, 17),
    message: 'why',
    details: details.map((typeUrl) => ({ typeUrl, value: randomBytes(random, random.between(0, 20)) })),
  }).finish()
  const bytes = random.chance(0.3) ? Buffer.from(status) : mutateMessage(status, random, []).subarray(0, MOST_DETAILS)
  const trailers: Record<string, string> = {
    'grpc-status': random.pick(['0', '1', '2', '4', '5', '8', '13', '14', '16', '99', '-1', '', 'x', '1e9', '00']),
  }
  if (random.chance(0.7)) trailers['grpc-status-details-bin'] = random.chance(0.9) ? bytes.toString('base64') : '!?='
  if (random.chance(0.5))
    trailers['grpc-message'] = random.pick(['why', '%', '%zz', '%ff%fe', 'x'.repeat(3_000), '%00'])
  if (random.chance(0.2)) trailers['grpc-retry-pushback-ms'] = random.pick(['0', '-1', 'x', '99999999999'])
  return trailers
}
