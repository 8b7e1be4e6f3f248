import { isDeepStrictEqual } from 'node:util'
import { ApplyResponse } from '../../proto/gen/farpool/routing/v1/routing.js'
import { decodePayload } from '../../wire/values/payload.js'
import { type RawAnswer, RawClient, type RawStream } from '../support/raw-unary.js'
import { POOL } from './messages.js'
import { OPEN_MS, requestCase, type Sent } from './request-cases.js'
import { Subject, type SubjectOptions } from './subject.js'
import { Broken, type Target, within } from './target.js'
import { VictimPool } from './victim-pool.js'

/** The calls of a connection before it is replaced: the server closes one with too many stream resets. */
const CALLS_OF_CONNECTION = 1_500
const CONNECTIONS = 4
/** The longest time that an RPC may stay open after its deadline. */
const LATE_MS = 30_000
/** How often an RPC is sent if its connection breaks. */
const TRIES = 3
/** Clients in Python and Go refuse larger trailers. */
const TRAILER_BYTES = 8 * 1024
const CANCEL = 8

/** A connection and the number of its calls so far. */
interface Connection {
  readonly client: RawClient
  calls: number
}

/** Mutated requests of every RPC, in valid HTTP/2, many at a time. */
export class Requests implements Target {
  readonly lanes = 256
  readonly #connections: Connection[] = []
  #next = 0

  private constructor(
    private readonly seed: number,
    private readonly subject: Subject,
    private readonly victim: VictimPool,
  ) {}

  static async start(seed: number, options: Pick<SubjectOptions, 'build' | 'env' | 'functions'>): Promise<Requests> {
    // Two processes for the shared pool, one for the victim pool, one for a pool that a case opens.
    const args = ['--max-processes', '4', '--max-pools', '2']
    const subject = await Subject.start({ ...options, processes: 2, args, innocent: {}, isDeadly: false })
    return new Requests(seed, subject, new VictimPool(subject.address))
  }

  get memory() {
    return this.subject.memory
  }

  bytes(number: number): Buffer {
    return Buffer.concat(requestCase(this.seed, number).flatMap(({ pieces }) => pieces))
  }

  check(): void {
    this.subject.check()
  }

  prove(): Promise<void> {
    return this.subject.prove()
  }

  async play(number: number): Promise<string> {
    const answers: string[] = []
    for (const sent of requestCase(this.seed, number)) answers.push(await this.#send(sent))
    return answers.at(-1) ?? ''
  }

  async rest(): Promise<void> {
    for (const { client } of this.#connections) client[Symbol.dispose]()
    this.victim[Symbol.dispose]()
    await this.subject.rest()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { client } of this.#connections) client[Symbol.dispose]()
    this.victim[Symbol.dispose]()
    await this.subject[Symbol.asyncDispose]()
  }

  async #send(sent: Sent): Promise<string> {
    for (let tries = 0; tries < TRIES; tries++) {
      const from = performance.now()
      const answer = await this.#try(sent)
      if (answer === 'broken') continue
      if (answer === 'reset') return 'reset by the client'
      if (sent.finish === 'end' && sent.timeoutMs > OPEN_MS && performance.now() - from >= sent.timeoutMs)
        throw new Broken(`${sent.rpc} was not answered within ${sent.timeoutMs} ms`)
      if (answer.status !== undefined || (answer.http ?? 200) !== 200 || answer.reset > 0) return judge(sent, answer)
    }
    return 'the connection broke'
  }

  /** Sends an RPC once. `reset`: this side reset it. `broken`: the connection broke. */
  async #try(sent: Sent): Promise<RawAnswer | 'reset' | 'broken'> {
    const { rpc, pieces, finish, timeoutMs } = sent
    const call = this.#open(sent)
    if (!call) return 'broken'
    for (const piece of pieces) call.stream.write(this.victim.named(piece, POOL))
    if (finish === 'end') call.stream.end()
    if (finish === 'reset') return reset(call)
    return within(timeoutMs + LATE_MS, `${rpc} was not ended`, call.answer)
  }

  /** Undefined if the connection has broken meanwhile. */
  #open({ rpc, headers, timeoutMs }: Sent): RawStream | undefined {
    const { client } = this.#connection()
    try {
      const all = { ...headers, 'grpc-timeout': `${timeoutMs}m` }
      return client.open({ path: `/farpool.v1.PoolService/${rpc}`, headers: all })
    } catch (error) {
      if (client.session.closed || client.session.destroyed) return undefined
      throw error
    }
  }

  #connection(): Connection {
    const at = this.#next++ % CONNECTIONS
    const used = this.#connections[at]
    if (used && used.calls++ < CALLS_OF_CONNECTION && !used.client.session.closed && !used.client.session.destroyed)
      return used
    // close() lets the open streams end.
    used?.client.session.close()
    const connection = { client: new RawClient(this.subject.address), calls: 0 }
    this.#connections[at] = connection
    return connection
  }
}

/** Resets the stream when the server has begun to answer. */
async function reset({ stream, answer }: RawStream): Promise<'reset'> {
  await Promise.race([new Promise((resolve) => stream.once('response', resolve)), answer])
  stream.close(CANCEL)
  await answer
  return 'reset'
}

/** Returns the answer as text. Throws Broken if the answer is not allowed. */
function judge(sent: Sent, answer: RawAnswer): string {
  const { http, status, reason, message, trailerBytes, reset } = answer
  if (trailerBytes > TRAILER_BYTES) throw new Broken(`${sent.rpc} was answered with trailers of ${trailerBytes} bytes`)
  if (status === undefined) return http === 200 || http === undefined ? `reset ${reset}` : `HTTP ${http}`
  const named = `${status} ${reason ?? ''}`.trimEnd()
  // A function may throw an error without a message.
  if (status !== '0' && reason !== 'FUNCTION_ERROR' && message === '')
    throw new Broken(`${sent.rpc} failed with ${named} and an empty message`)
  if (reason === 'INTERNAL') throw new Broken(`${sent.rpc} failed with ${named}: ${message}`)
  if (sent.echo) judgeEcho(sent.echo, answer, named)
  return named
}

/** A payload that cannot be decoded must be refused; any other must come back. */
function judgeEcho(echo: Buffer, { status, reason, body }: RawAnswer, named: string): void {
  let value: unknown
  let unreadable: unknown
  try {
    ;({ value } = decodePayload(echo))
  } catch (error) {
    unreadable = error
  }
  if (status !== '0') {
    const isRight = unreadable !== undefined ? reason === 'PAYLOAD_DECODE_FAILED' : reason === 'RESULT_ENCODE_FAILED'
    if (!isRight)
      throw new Broken(`identity of a value failed with ${named}; decoding it here: ${unreadable ?? 'no error'}`)
    return
  }
  if (unreadable !== undefined) throw new Broken(`identity took a value that cannot be read: ${unreadable}`)
  const back = decodePayload(ApplyResponse.decode(body.subarray(5)).result).value
  if (!isDeepStrictEqual(back, value)) throw new Broken('identity returned another value than its argument')
}
