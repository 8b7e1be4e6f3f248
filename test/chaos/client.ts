import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { endsWithin, isRunning } from './processes.js'
import type { Relay } from './relay.js'
import type { TrafficCommand, TrafficOptions, TrafficReport } from './traffic.js'

const TRAFFIC = fileURLToPath(new URL('traffic.js', import.meta.url))

/** A client process (traffic.ts), seen from the harness. */
export class TrafficClient {
  readonly #child: ReturnType<typeof fork>
  #issued = 0
  #open = 0
  #workers: number[] = []
  #isDone = false
  /** The end of its standard error, for the report. */
  #stderr = ''

  constructor(
    readonly options: TrafficOptions,
    readonly relay: Relay | undefined,
    env: NodeJS.ProcessEnv,
  ) {
    this.#child = fork(TRAFFIC, [JSON.stringify(options)], { env, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-10_000)
    })
    this.#child.on('message', (report: TrafficReport) => {
      if (report.type === 'workers') this.#workers = report.pids
      else this.#issued = report.items
      if (report.type === 'issued') this.#open = report.open
      if (report.type === 'done') this.#isDone = true
    })
    // Sending to a process that has just been killed emits an error.
    this.#child.on('error', () => {})
  }

  get number(): number {
    return this.options.client
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get issued(): number {
    return this.#issued
  }

  get open(): number {
    return this.#open
  }

  get isRunning(): boolean {
    return isRunning(this.#child)
  }

  /** The pids of the workers of the pool that it opened last. */
  get workers(): readonly number[] {
    return this.#workers
  }

  send(command: TrafficCommand): void {
    if (this.#child.connected) this.#child.send(command)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  /** Lets the client finish its calls and exit, for at most `ms` milliseconds; then kills it. Resolves with a complaint, if any. */
  async finish(ms: number): Promise<string | undefined> {
    this.send({ type: 'finish' })
    const ended = await endsWithin(this.#child, ms)
    if (!ended) this.kill()
    if (ended && this.#isDone) return undefined
    const how = ended ? `ended with ${this.#child.signalCode ?? this.#child.exitCode}` : `was not done after ${ms} ms`
    return `client ${this.number} ${how}, ${this.#open} calls open\n${this.#stderr}`
  }
}
