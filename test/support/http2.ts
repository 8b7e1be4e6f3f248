import { connect, type Socket } from 'node:net'

/** HTTP/2 written frame by frame, to send what no HTTP/2 library sends. */

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

/** The types of frames. */
export const Type = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const

/** Flags of frames. The same bit means something else in each type. */
export const END_STREAM = 1
export const ACK = 1
export const END_HEADERS = 4

/** The settings that attacks need. */
export const INITIAL_WINDOW_SIZE = 4

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly body: Buffer
}

export function frameOf(type: number, flags: number, stream: number, body: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(body.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, body])
}

export function settings(values: Readonly<Record<number, number>> = {}): Buffer {
  const entries = Object.entries(values).map(([id, value]) => {
    const entry = Buffer.alloc(6)
    entry.writeUInt16BE(Number(id))
    entry.writeUInt32BE(value, 2)
    return entry
  })
  return frameOf(Type.SETTINGS, 0, 0, Buffer.concat(entries))
}

export function windowUpdate(stream: number, bytes: number): Buffer {
  return frameOf(Type.WINDOW_UPDATE, 0, stream, number32(bytes))
}

export const ping = (): Buffer => frameOf(Type.PING, 0, 0, Buffer.alloc(8))

export const reset = (stream: number, code = 8): Buffer => frameOf(Type.RST_STREAM, 0, stream, number32(code))

export const goaway = (lastStream = 0, code = 0): Buffer =>
  frameOf(Type.GOAWAY, 0, 0, Buffer.concat([number32(lastStream), number32(code)]))

function number32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** Encodes headers with HPACK as literal names and values: no table, no Huffman code. */
export function headerBlock(headers: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(headers.flatMap(([name, value]) => [Buffer.from([0x10]), text(name), text(value)]))
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1')
  const length = [bytes.length]
  if (bytes.length >= 127) {
    length[0] = 127
    let rest = bytes.length - 127
    for (; rest >= 128; rest >>>= 7) length.push(128 | (rest & 127))
    length.push(rest)
  }
  return Buffer.concat([Buffer.from(length), bytes])
}

/** The headers of a gRPC call. The headers in `more` replace them or are added. */
export function callHeaders(path: string, more: Readonly<Record<string, string>> = {}): [string, string][] {
  const own = { ':method': 'POST', ':scheme': 'http', ':path': path, ':authority': 'farpool', te: 'trailers' }
  return Object.entries({ ...own, 'content-type': 'application/grpc', ...more })
}

export const openStream = (stream: number, headers: readonly (readonly [string, string])[], flags = 0): Buffer =>
  frameOf(Type.HEADERS, END_HEADERS | flags, stream, headerBlock(headers))

/** A TCP connection that sends and answers nothing by itself. */
export class RawPeer implements Disposable {
  readonly frames: Frame[] = []
  /** Resolves when either end has closed the connection. */
  readonly closed: Promise<void>
  /** The number of received bytes. */
  received = 0
  #rest = Buffer.alloc(0)
  #listeners: (() => void)[] = []
  #isClosed = false

  private constructor(readonly socket: Socket) {
    socket.on('error', () => {})
    socket.on('data', (bytes: Buffer) => this.#read(bytes))
    this.closed = new Promise((resolve) =>
      socket.once('close', () => {
        this.#isClosed = true
        this.#wake()
        resolve()
      }),
    )
  }

  static async connect(address: string): Promise<RawPeer> {
    const { hostname, port } = new URL(`http://${address}`)
    const socket = connect(Number(port), hostname)
    const peer = new RawPeer(socket)
    await Promise.race([new Promise((resolve) => socket.once('connect', resolve)), peer.closed])
    return peer
  }

  /** Connects, and sends the preface of HTTP/2 with these settings. */
  static async greet(address: string, values: Readonly<Record<number, number>> = {}): Promise<RawPeer> {
    const peer = await RawPeer.connect(address)
    await peer.send(PREFACE, settings(values), frameOf(Type.SETTINGS, ACK, 0))
    return peer
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Writes frames. Resolves when the kernel has accepted them, or the connection is closed. */
  async send(...frames: Uint8Array[]): Promise<void> {
    if (this.#isClosed || this.socket.destroyed) return
    const bytes = Buffer.concat(frames)
    await Promise.race([new Promise((resolve) => this.socket.write(bytes, () => resolve(undefined))), this.closed])
  }

  /** The first frame that fits, received before or from now on. Undefined if the connection closes without one. */
  async frame(fits: (frame: Frame) => boolean): Promise<Frame | undefined> {
    for (let seen = 0; ; ) {
      for (; seen < this.frames.length; seen++) {
        const frame = this.frames[seen]
        if (frame && fits(frame)) return frame
      }
      if (this.#isClosed) return undefined
      await new Promise<void>((resolve) => this.#listeners.push(resolve))
    }
  }

  /** Resolves when the other end has read everything that was sent, or the connection is closed. */
  async settled(): Promise<void> {
    const before = this.frames.length
    await this.send(ping())
    await this.frame((frame) => frame.type === Type.PING && this.frames.indexOf(frame) >= before)
  }

  [Symbol.dispose](): void {
    this.socket.destroy()
  }

  #read(bytes: Buffer): void {
    this.received += bytes.length
    this.#rest = Buffer.concat([this.#rest, bytes])
    while (this.#rest.length >= 9) {
      const length = 9 + this.#rest.readUIntBE(0, 3)
      if (this.#rest.length < length) break
      const [type, flags, stream] = [this.#rest.readUInt8(3), this.#rest.readUInt8(4), this.#rest.readUInt32BE(5)]
      this.frames.push({ type, flags, stream, body: this.#rest.subarray(9, length) })
      this.#rest = this.#rest.subarray(length)
    }
    this.#wake()
  }

  #wake(): void {
    for (const listener of this.#listeners.splice(0)) listener()
  }
}
