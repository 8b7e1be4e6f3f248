import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { endsWithin, isRunning } from './processes.js'
import type { Relay } from './relay.js'
import type { FromTraffic, ToTraffic, TrafficOptions } from './traffic.js'

const TRAFFIC = fileURLToPath(new URL('traffic.js', import.meta.url))

/** A client process, seen from the harness. */
export class TrafficClient {
  readonly #child: ChildProcess
  #issued = 0
  #open = 0
  #workers: number[] = []
  #isDone = false
  /** What it said on its standard error; for the report. */
  said = ''

  constructor(
    readonly options: TrafficOptions,
    readonly relay: Relay | undefined,
    env: NodeJS.ProcessEnv,
  ) {
    this.#child = fork(TRAFFIC, [JSON.stringify(options)], { env, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.said = (this.said + text).slice(-10_000)
    })
    this.#child.on('message', (said: FromTraffic) => {
      if (said.what === 'workers') this.#workers = said.pids
      else this.#issued = said.items
      if (said.what === 'issued') this.#open = said.open
      if (said.what === 'done') this.#isDone = true
    })
    // One that has just been killed cannot be told anything.
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

  /** Of the pool of its own that it opened last. */
  get workers(): readonly number[] {
    return this.#workers
  }

  tell(said: ToTraffic): void {
    if (this.#child.connected) this.#child.send(said)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  /** Lets it end what is under way. Resolves with why it did not; a client that did not is killed. */
  async finish(ms: number): Promise<string | undefined> {
    this.tell({ what: 'finish' })
    const ended = await endsWithin(this.#child, ms)
    if (!ended) this.kill()
    if (ended && this.#isDone) return undefined
    const how = ended ? `ended with ${this.#child.signalCode ?? this.#child.exitCode}` : `was not done after ${ms} ms`
    return `client ${this.number} ${how}, ${this.#open} calls open\n${this.said}`
  }
}
