import { connect as connectSession } from 'node:http2'
import { connect as connectSocket, type Socket } from 'node:net'
import { type CallOutcome, CallRequest, CallResponse } from '../../proto/gen/farpool/v1/pool_service.js'

/** How a stream ended: with a gRPC status, or without one if it broke before. */
export interface RawEnd {
  readonly status: string | undefined
  readonly message: string
}

/** One stream of the RPC Call, written byte by byte. */
export interface RawCall {
  readonly outcomes: readonly CallOutcome[]
  readonly ended: Promise<RawEnd>
  write(...frames: Uint8Array[]): void
  /** Resolves when the write buffer is empty enough for more. */
  drained(): Promise<void>
  /** Stops reading until `resume`, so that the window of the other end fills. */
  pause(): void
  resume(): void
  /** Closes this side. */
  end(): void
  /** Resets the stream; the connection stays. */
  reset(): void
}

/** An HTTP/2 connection without a gRPC library, to send what no gRPC library sends. */
export interface RawConnection extends Disposable {
  readonly socket: Socket
  call(): RawCall
}

export function connectRaw(address: string): RawConnection {
  const { hostname, port } = new URL(`http://${address}`)
  const socket = connectSocket(Number(port), hostname)
  const session = connectSession(`http://${address}`, { createConnection: () => socket })
  session.on('error', () => {})
  return { socket, call: () => openCall(session), [Symbol.dispose]: () => session.destroy() }
}

function openCall(session: ReturnType<typeof connectSession>): RawCall {
  const stream = session.request({
    ':method': 'POST',
    ':path': '/farpool.v1.PoolService/Call',
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  const outcomes: CallOutcome[] = []
  let chunks: Buffer[] = []
  let received = 0
  /** The number of bytes that are needed before the next message can be decoded. */
  let wanted = 5
  let end: RawEnd = { status: undefined, message: '' }
  const read = (headers: Record<string, unknown>) => {
    const { 'grpc-status': status, 'grpc-message': message } = headers
    if (status !== undefined) end = { status: String(status), message: decodeURI(String(message)) }
  }
  stream.on('error', () => {})
  stream.on('response', read)
  stream.on('trailers', read)
  stream.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    received += chunk.length
    while (received >= wanted) {
      const bytes = Buffer.concat(chunks)
      const length = 5 + bytes.readUInt32BE(1)
      const whole = received >= length
      if (whole) outcomes.push(...CallResponse.decode(bytes.subarray(5, length)).outcomes)
      chunks = [whole ? bytes.subarray(length) : bytes]
      received = chunks[0]?.length ?? 0
      wanted = whole ? 5 : length
    }
  })
  return {
    outcomes,
    ended: new Promise((resolve) => {
      stream.once('end', () => resolve(end))
      stream.once('close', () => resolve(end))
    }),
    write: (...frames) => void stream.write(Buffer.concat(frames)),
    drained: async () => {
      if (stream.writableNeedDrain) await new Promise((resolve) => stream.once('drain', resolve))
    },
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    end: () => void stream.end(),
    reset: () => stream.close(8),
  }
}

/** A gRPC frame of these bytes, whose prefix announces `announced` bytes. */
export function frame(bytes: Uint8Array, announced = bytes.length): Buffer {
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(announced, 1)
  return Buffer.concat([prefix, bytes])
}

/** An encoded message with one group of calls of a function, with JSON arguments by id, and cancelled ids. */
export function message(name: string, calls: Readonly<Record<number, unknown[]>>, cancelled: number[] = []): Buffer {
  const items = Object.entries(calls).map(([id, args]) => ({
    id: Number(id),
    args: args.map((arg) => ({ kind: { $case: 'json' as const, value: JSON.stringify(arg) } })),
    chunk: undefined,
  }))
  const group = {
    pool: '',
    function: name,
    args: [],
    kwargs: undefined,
    replyKind: 0,
    retries: 0,
    queueTimeoutMs: 0,
    runTimeoutMs: 0,
  }
  const groups =
    items.length > 0 ? [{ ...group, spread: false, onError: 0, timeoutMs: 0, allowPartial: false, calls: items }] : []
  return Buffer.from(
    CallRequest.encode({ groups, cancelled, session: undefined, received: 0, abandon: false, last: false }).finish(),
  )
}
