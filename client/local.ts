import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Status } from '../proto/gen/google/rpc/status.js'
import { Failure, statusToFailure } from '../wire/failure.js'
import { encodePayload } from '../wire/values/payload.js'
import type { Backing, Target } from './backing.js'
import type { PoolOptions } from './options.js'

/** Options of Pool.local: those of a pool, and what its server can be told. */
export interface LocalOptions extends PoolOptions {
  /** What the server logs on this process's standard error; what functions print is always logged. Default 'warn'. */
  logLevel?: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'
  /** How long a function may go on after its call was cancelled, in milliseconds; then its process is killed. Default 2000. */
  graceMs?: number
}

const EMBEDDED_MAIN = fileURLToPath(new URL('../cli/embedded-server.js', import.meta.url))

/**
 * A server of one Pool's own, as a process on a Unix socket. Its life hangs on its standard input: when that ends,
 * because we close it or because this process died, it kills its workers and exits. It does not keep this process alive.
 */
export class LocalBacking implements Backing {
  readonly #exited: Promise<void>
  #failure: Failure | undefined

  private constructor(
    readonly address: string,
    private readonly child: ChildProcess,
    private readonly processes: number,
  ) {
    this.#exited = once(child, 'exit').then(async () => {
      this.#failure = new Failure('POOL_CLOSED', 'the local server has ended')
      // It removes its folder itself, unless it was killed.
      await rm(dirname(address.replace('unix:', '')), { recursive: true, force: true })
    })
  }

  static async start(modules: readonly (string | URL)[], options: LocalOptions): Promise<LocalBacking> {
    const child = spawn(process.execPath, [EMBEDDED_MAIN], { stdio: ['pipe', 'ignore', 'inherit', 'pipe'] })
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
      // It may have died before it could read; then its silence tells.
      child.stdin?.on('error', () => {})
      child.stdin?.write(`${settings}\n`)
      const ready = await firstLine(child)
      if ('status' in ready) throw statusToFailure(Status.decode(Buffer.from(ready.status, 'base64')))
      unref(child)
      return new LocalBacking(ready.address, child, ready.processes)
    } catch (error) {
      child.stdin?.destroy()
      throw error
    }
  }

  get failure(): Failure | undefined {
    return this.#failure
  }

  get known(): Target {
    return { pool: '', processes: this.processes }
  }

  async target(): Promise<Target> {
    return this.known
  }

  async finish(): Promise<void> {
    this.child.ref()
    this.child.kill('SIGTERM')
    await this.#exited
  }

  async terminate(): Promise<void> {
    this.child.ref()
    this.child.stdin?.destroy()
    await this.#exited
  }
}

/** What the server says when it takes calls, or why it will not: one line of JSON on its file descriptor 3. */
async function firstLine(child: ChildProcess): Promise<{ address: string; processes: number } | { status: string }> {
  const said = child.stdio[3] as Socket
  said.setEncoding('utf8')
  let text = ''
  for await (const piece of said) {
    text += piece
    if (text.includes('\n')) return JSON.parse(text)
  }
  throw new Failure('CONNECTION_FAILED', 'the local server ended before it could take calls; its log tells why', {
    started: false,
  })
}

/** A program that forgets its pool ends all the same, and the server with it. */
function unref(child: ChildProcess): void {
  child.unref()
  ;(child.stdin as Socket | null)?.unref()
}
