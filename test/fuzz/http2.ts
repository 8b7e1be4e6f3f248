import { frameOf, RawPeer, Type } from '../support/http2.js'
import { http2Case } from './http2-cases.js'
import { Subject, type SubjectOptions } from './subject.js'
import { type Target, within } from './target.js'

/** The longest time that a case waits for the server. */
const ANSWER_MS = 600
/** The longest time until the end of a connection that this side has closed. */
const CLOSE_MS = 20_000
const ACK = 1
const END_STREAM = 1
/** The payload of the PING that follows each case. */
const MARK = Buffer.from('the end.')

/** Mutated HTTP/2 frames. Each case has its own connection. */
export class Http2 implements Target {
  readonly lanes = 64

  private constructor(
    private readonly seed: number,
    private readonly subject: Subject,
  ) {}

  static async start(seed: number, options: Pick<SubjectOptions, 'build' | 'env' | 'functions'>): Promise<Http2> {
    // A connection that the server has told to go away stays until a keepalive finds it dead.
    const args = ['--max-connections', '10000', '--max-pools', '1', '--max-processes', '3']
    return new Http2(seed, await Subject.start({ ...options, processes: 2, args, innocent: {}, isDeadly: false }))
  }

  get memory() {
    return this.subject.memory
  }

  bytes(number: number): Buffer {
    return Buffer.concat(http2Case(this.seed, number).pieces)
  }

  check(): void {
    this.subject.check()
  }

  prove(): Promise<void> {
    return this.subject.prove()
  }

  async play(number: number): Promise<string> {
    const { pieces, isPatient } = http2Case(this.seed, number)
    const peer = await RawPeer.connect(this.subject.address)
    let timer: NodeJS.Timeout | undefined
    const silence = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve('waits for more'), ANSWER_MS)
    })
    try {
      return await Promise.race([converse(peer, pieces, isPatient), silence])
    } finally {
      clearTimeout(timer)
      peer[Symbol.dispose]()
      await within(CLOSE_MS, 'a connection was not closed', peer.closed)
    }
  }

  rest(): Promise<void> {
    return this.subject.rest()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.subject[Symbol.asyncDispose]()
  }
}

/** Sends the case. Resolves with the server's reaction, as text. */
async function converse(peer: RawPeer, pieces: readonly Buffer[], isPatient: boolean): Promise<string> {
  for (const piece of pieces) await peer.send(piece)
  await peer.send(frameOf(Type.PING, 0, 0, MARK))
  const last = await peer.frame(
    ({ type, flags, body }) => type === Type.GOAWAY || (type === Type.PING && flags === ACK && body.equals(MARK)),
  )
  if (!last) return 'closed'
  if (last.type === Type.GOAWAY) return `GOAWAY ${last.body.length >= 8 ? last.body.readUInt32BE(4) : ''}`
  if (!isPatient) return 'goes on'
  const end = await peer.frame(
    ({ type, flags }) => type === Type.RST_STREAM || (type === Type.HEADERS && (flags & END_STREAM) > 0),
  )
  if (!end) return 'closed'
  return end.type === Type.RST_STREAM ? `reset ${end.body.readUInt32BE(0)}` : 'a stream was ended'
}
