import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net'

/** A way from one client to the server that can be cut, or held up. */
export class Relay implements AsyncDisposable {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #isStalled = false

  private constructor(target: NetConnectOpts) {
    this.#server = createServer((inner) => {
      const outer = connect(target)
      for (const [from, to] of [
        [inner, outer],
        [outer, inner],
      ] as const) {
        this.#sockets.add(from)
        from.on('error', () => {})
        from.on('close', () => {
          this.#sockets.delete(from)
          to.destroy()
        })
        from.setNoDelay(true)
        from.pipe(to)
        if (this.#isStalled) from.pause()
      }
    })
  }

  static async open(target: NetConnectOpts): Promise<Relay> {
    const relay = new Relay(target)
    relay.#server.listen(0, '127.0.0.1')
    await once(relay.#server, 'listening')
    return relay
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Whether there is anything to cut. */
  get isUsed(): boolean {
    return this.#sockets.size > 0
  }

  /** Both ends learn of it at once. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Nothing gets through, in either direction, until `resume`; nobody is told. */
  stall(): void {
    this.#isStalled = true
    for (const socket of this.#sockets) socket.pause()
  }

  resume(): void {
    this.#isStalled = false
    for (const socket of this.#sockets) socket.resume()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }
}
