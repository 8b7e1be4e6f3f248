import { type ClientHttp2Session, type ClientHttp2Stream, connect, type OutgoingHttpHeaders } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { Status } from '../../proto/gen/google/rpc/status.js'
import { statusToFailure } from '../../wire/failure.js'

/** The answer of a call, in terms of HTTP/2. */
export interface RawAnswer {
  readonly http: number | undefined
  readonly status: string | undefined
  readonly message: string
  readonly reason: string | undefined
  /** The size of all headers and trailers, as HTTP/2 counts it. */
  readonly trailerBytes: number
  /** The code of the reset that ended the stream; 0 if it was not reset. */
  readonly reset: number
  readonly body: Buffer
}

export interface RawRequest {
  readonly path?: string
  readonly headers?: OutgoingHttpHeaders
  readonly body?: Uint8Array
  /** Does not close this side of the stream. */
  readonly open?: boolean
}

/** A call that has not ended. */
export interface RawStream {
  readonly stream: ClientHttp2Stream
  /** Rejects if the details of the answer are not a google.rpc.Status. */
  readonly answer: Promise<RawAnswer>
}

/** A connection for unary calls that are written by hand. */
export class RawClient implements Disposable {
  readonly session: ClientHttp2Session

  /** @param localAddress the IP address of this end. */
  constructor(address: string, localAddress?: string) {
    const { hostname: host, port } = new URL(`http://${address}`)
    this.session = connect(`http://${address}`, {
      createConnection: () => connectSocket({ host, port: Number(port), ...(localAddress && { localAddress }) }),
    })
    this.session.on('error', () => {})
  }

  /** Resolves when the other side has ended the call. */
  send({ body, open = false, ...request }: RawRequest): Promise<RawAnswer> {
    const { stream, answer } = this.open(request)
    if (body) stream.write(body)
    if (!open) stream.end()
    return answer
  }

  /** Opens a call; the caller writes its body. */
  open({ path = '/farpool.v1.PoolService/Apply', headers = {} }: Omit<RawRequest, 'body' | 'open'>): RawStream {
    const usual = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' }
    const stream = this.session.request({ ...usual, ...headers })
    return { stream, answer: answerOf(stream) }
  }

  [Symbol.dispose](): void {
    this.session.destroy()
  }
}

function answerOf(stream: ClientHttp2Stream): Promise<RawAnswer> {
  const received: Record<string, unknown> = {}
  const parts: Buffer[] = []
  stream.on('response', (more) => Object.assign(received, more))
  stream.on('trailers', (more) => Object.assign(received, more))
  stream.on('data', (part: Buffer) => parts.push(part))
  stream.on('error', () => {})
  const ended = new Promise<void>((resolve) => {
    stream.once('close', resolve)
    stream.once('end', () => {
      // A stream that has ended on both sides closes by itself.
      if (!stream.writableEnded) stream.close()
      // Node does not always emit `close` for a stream that ends without an error.
      if (received['grpc-status'] !== undefined) resolve()
    })
  })
  return ended.then(() => {
    const details = received['grpc-status-details-bin']
    const bytes = typeof details === 'string' ? Buffer.from(details, 'base64') : undefined
    return {
      http: received[':status'] as number | undefined,
      status: received['grpc-status'] as string | undefined,
      message: decodeURI(String(received['grpc-message'] ?? '')),
      reason: bytes && statusToFailure(Status.decode(bytes)).reason,
      trailerBytes: Object.entries(received).reduce(
        (sum, [name, value]) => sum + name.length + String(value).length + 32,
        0,
      ),
      reset: stream.rstCode,
      body: Buffer.concat(parts),
    }
  })
}
