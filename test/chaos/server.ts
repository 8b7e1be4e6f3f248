import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { endsWithin, isRunning } from './processes.js'

export interface ServerOptions {
  readonly build: string
  /** `unix:/path` or `host:port`. */
  readonly listen: string
  readonly processes: number
  readonly drainMs: number
  readonly env: NodeJS.ProcessEnv
  /** A command before the server's, which runs it on another host (network.ts). */
  readonly prefix?: readonly string[]
  /** The module of functions. Default: functions.ts of this folder. */
  readonly module?: string
  /** Options of Node. */
  readonly nodeFlags?: readonly string[]
  /** Further options of `farpool serve`. */
  readonly args?: readonly string[]
  /** Called for each line of its log, worker output aside. */
  onLog?(line: LogLine): void
}

export interface LogLine {
  readonly level: number
  readonly msg: string
  readonly reason?: string
  readonly address?: string
}

export const FUNCTIONS = fileURLToPath(new URL('functions.js', import.meta.url))

/** The --grace of the server: the time for a cancelled function to end. */
const GRACE_MS = 200
/** The time that a server may need to end, beyond its drainMs. */
const END_MS = 20_000

/** `farpool serve` as a process. After a restart it has the same address. */
export class ServerUnderTest {
  #child: ReturnType<typeof spawn> | undefined
  #address = ''
  /** Errors in its log that are not the fault of a function. */
  readonly complaints: string[] = []

  constructor(private readonly options: ServerOptions) {}

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  get address(): string {
    return this.#address
  }

  get isRunning(): boolean {
    return this.#child !== undefined && isRunning(this.#child)
  }

  /** Resolves when the server takes calls. */
  async start(): Promise<void> {
    const { build, listen, processes, drainMs, env, module = FUNCTIONS, nodeFlags = [], prefix = [] } = this.options
    const { args: more = [] } = this.options
    const args = [
      '--listen',
      this.#address || listen,
      '--processes',
      processes,
      '--drain',
      drainMs,
      '--grace',
      GRACE_MS,
      ...more,
    ]
    const serve = [process.execPath, ...nodeFlags, `${build}/cli/main.js`, 'serve', module, ...args.map(String)]
    const [command = '', ...rest] = [...prefix, ...serve, '--exit-on-stdin-end']
    const child = spawn(
      command,
      rest,
      // With --exit-on-stdin-end the server ends when the harness ends or is killed.
      { stdio: ['pipe', 'ignore', 'pipe'], env },
    )
    this.#child = child
    const serving = new Promise<string>((resolve, reject) => {
      child.once('exit', (code, name) =>
        reject(new Error(`the server ended with ${name ?? code} before it took calls`)),
      )
      createInterface({ input: child.stderr }).on('line', (line) => {
        const address = this.#read(line)
        if (address) resolve(address)
      })
    })
    this.#address = await serving
  }

  /** Reads a line of the log. Returns the address if the line reports that the server takes calls. */
  #read(line: string): string | undefined {
    if (!line.startsWith('{')) {
      this.complaints.push(line)
      return undefined
    }
    const { msg, level, address, err, stream, reason } = JSON.parse(line)
    if (stream === undefined) this.options.onLog?.({ level, msg, reason, address })
    // Worker output and failed initializers are no fault of the server.
    if (level >= 50 && stream === undefined && reason !== 'INITIALIZER_FAILED')
      this.complaints.push(err ? `${msg}: ${err.stack}` : line)
    return msg === 'serving' ? address : undefined
  }

  /** Sends SIGTERM. Resolves with the exit code, or with a text if there is none. */
  async drain(): Promise<number | string> {
    const child = this.#child
    if (!child) return 0
    child.kill('SIGTERM')
    if (!(await endsWithin(child, this.options.drainMs + END_MS))) {
      child.kill('SIGKILL')
      await endsWithin(child, END_MS)
      return 'it had to be killed'
    }
    return child.exitCode ?? String(child.signalCode)
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (!child || !isRunning(child)) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
}
