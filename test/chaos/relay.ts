import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** A way from one client to the server that can be cut, or held up. */
export class Relay implements AsyncDisposable {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #isStalled = false

  private constructor(target: NetConnectOpts, change: (() => Duplex) | undefined) {
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
        if (from === outer && change) from.pipe(change()).pipe(to)
        else from.pipe(to)
        if (this.#isStalled) from.pause()
      }
    })
  }

  /** @param change through which the server's bytes pass, for each connection. */
  static async open(target: NetConnectOpts, change?: () => Duplex): Promise<Relay> {
    const relay = new Relay(target, change)
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
