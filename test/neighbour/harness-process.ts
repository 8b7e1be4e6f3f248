import { fork } from 'node:child_process'
import { lowerPriority, MAX_NICENESS } from '../../pool/process/priority.js'
import { endsWithin, isRunning } from '../chaos/processes.js'

/** The time that a process gets to end by itself before it is killed, in milliseconds. */
const END_MS = 5_000

/** One process of the harness, seen from the main process: it sends commands and receives reports (messages.ts). */
export class HarnessProcess<Command extends object, Report extends { readonly type: string }> {
  readonly #child: ReturnType<typeof fork>
  #reports: Report[] = []
  #wake: () => void = () => {}
  #errors = ''

  /** @param isElsewhere simulates another machine: the process gets only CPU time that no other process wants. */
  constructor(module: URL, options: object, env: NodeJS.ProcessEnv, isElsewhere = false) {
    const child = fork(module, [JSON.stringify(options)], {
      env,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      // A session of its own, as each of the server's workers has: Linux may share the CPU between sessions.
      detached: true,
    })
    this.#child = child
    if (isElsewhere && child.pid !== undefined) lowerPriority(child.pid, MAX_NICENESS, () => isRunning(child))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-5_000)
    })
    child.on('message', (report: Report) => {
      this.#reports.push(report)
      this.#wake()
    })
    child.on('exit', () => this.#wake())
    // Sending to a process that has just ended emits an error.
    child.on('error', () => {})
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  send(command: Command): void {
    if (this.#child.connected) this.#child.send(command)
  }

  /** Resolves with the next report of this type. Throws if the process ends first, or after `ms` milliseconds. */
  async receive<Type extends Report['type']>(type: Type, ms: number): Promise<Extract<Report, { type: Type }>> {
    const until = performance.now() + ms
    for (;;) {
      const at = this.#reports.findIndex((report) => report.type === type)
      const [report] = at < 0 ? [] : this.#reports.splice(at, 1)
      if (report) return report as Extract<Report, { type: Type }>
      const left = until - performance.now()
      if (!isRunning(this.#child) || left <= 0) {
        const { exitCode, signalCode } = this.#child
        const why = left <= 0 ? `did not send it within ${ms} ms` : `ended with ${signalCode ?? exitCode}`
        throw new Error(`a process that should report '${type}' ${why}\n${this.#errors}`)
      }
      await this.#nextReport(left)
    }
  }

  /** Resolves with the next report of any type, when the process ends, or after `ms` milliseconds. */
  #nextReport(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Resolves when the process has ended. Kills it after END_MS. */
  async end(): Promise<void> {
    if (await endsWithin(this.#child, END_MS)) return
    this.#child.kill('SIGKILL')
    await endsWithin(this.#child, END_MS)
  }
}
