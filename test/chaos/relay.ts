import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** A TCP proxy between one client and the server that can cut or stall the connections. */
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

  /** @param change makes a stream for each connection; the server's bytes pass through it. */
  static async open(target: NetConnectOpts, change?: () => Duplex): Promise<Relay> {
    const relay = new Relay(target, change)
    relay.#server.listen(0, '127.0.0.1')
    await once(relay.#server, 'listening')
    return relay
  }

  /** A relay to a server at `host:port`. */
  static to(address: string): Promise<Relay> {
    const { hostname: host, port } = new URL(`http://${address}`)
    return Relay.open({ host, port: Number(port) })
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** True if there is a connection. */
  get isUsed(): boolean {
    return this.#sockets.size > 0
  }

  /** Closes all connections. Both ends notice at once. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Passes nothing on, in either direction, until `resume`. Neither end notices. */
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
