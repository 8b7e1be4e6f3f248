import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { Socket } from 'node:net'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Status } from '../proto/gen/google/rpc/status.js'
import { Failure, statusToFailure } from '../wire/failure.js'
import { encodePayload } from '../wire/values/payload.js'
import type { Backing, Target } from './backing.js'
import type { PoolOptions } from './options.js'

/** The options of Pool.local: those of a pool, and those of its server. */
export interface LocalOptions extends PoolOptions {
  /**
   * The lowest severity of the messages that the server logs on this process's standard error. The output of functions
   * is logged at every level except 'silent'. Default: 'warn'.
   */
  logLevel?: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'
  /** How long a function may run on after its call was cancelled, in milliseconds; then its process is killed. Default: 2,000. */
  graceMs?: number
}

const EMBEDDED_MAIN = fileURLToPath(new URL('../cli/embedded-server.js', import.meta.url))

const spawnServer = () => spawn(process.execPath, [EMBEDDED_MAIN], { stdio: ['pipe', 'ignore', 'inherit', 'pipe'] })
type ServerProcess = ReturnType<typeof spawnServer>

/**
 * A server that belongs to one Pool: a process that listens on a Unix socket. When its standard input ends, it kills its
 * workers and exits. That happens when the Pool closes it, and also when this process dies. The server does not keep this
 * process alive.
 */
export class LocalBacking implements Backing {
  readonly known: Target
  failure: Failure | undefined
  readonly #exited: Promise<void>

  private constructor(
    readonly address: string,
    private readonly server: ServerProcess,
    processes: number,
  ) {
    this.known = { pool: '', processes }
    this.#exited = once(server, 'exit').then(async () => {
      this.failure = new Failure('POOL_CLOSED', 'the local server has ended')
      // The server removes its folder itself, unless it was killed.
      await rm(dirname(address.replace('unix:', '')), { recursive: true, force: true })
    })
  }

  /** @throws Failure if the server cannot start. */
  static async start(modules: readonly (string | URL)[], options: LocalOptions): Promise<LocalBacking> {
    const server = spawnServer()
    try {
      const { processes, initializer, initargs, maxtasksperchild, logLevel = 'warn', graceMs } = options
      const serve = {
        modules: modules.map(String),
        logLevel,
        ...(processes !== undefined && { processes }),
        ...(initializer !== undefined && { initializer }),
        ...(initargs !== undefined && { initargs }),
        ...(maxtasksperchild !== undefined && { maxTasksPerChild: maxtasksperchild }),
        ...(graceMs !== undefined && { graceMs }),
      }
      const settings = Buffer.from(encodePayload(serve, 'cbor')).toString('base64')
      // If the server dies before it reads its settings, readyMessage() fails.
      server.stdin?.on('error', () => {})
      server.stdin?.write(`${settings}\n`)
      const ready = await readyMessage(server)
      if ('status' in ready) throw statusToFailure(Status.decode(Buffer.from(ready.status, 'base64')))
      unref(server)
      return new LocalBacking(ready.address, server, ready.processes)
    } catch (error) {
      server.stdin?.destroy()
      throw error
    }
  }

  async target(): Promise<Target> {
    return this.known
  }

  async finish(): Promise<void> {
    this.server.ref()
    this.server.kill('SIGTERM')
    await this.#exited
  }

  async terminate(): Promise<void> {
    this.server.ref()
    this.server.stdin?.destroy()
    await this.#exited
  }
}

/** The server writes one line of JSON to its file descriptor 3: its address when it takes calls, or why it cannot start. */
async function readyMessage(
  server: ServerProcess,
): Promise<{ address: string; processes: number } | { status: string }> {
  const output = server.stdio[3]
  if (output instanceof Socket) {
    let text = ''
    for await (const piece of output.setEncoding('utf8')) {
      text += piece
      if (text.includes('\n')) return JSON.parse(text)
    }
  }
  throw new Failure('CONNECTION_FAILED', 'the local server ended before it could take calls; its log tells why', {
    started: false,
  })
}

/** A program that does not close its Pool exits all the same, and the server with it. */
function unref(server: ServerProcess): void {
  server.unref()
  if (server.stdin instanceof Socket) server.stdin.unref()
}
