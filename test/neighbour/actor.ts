import { type ChildProcess, fork } from 'node:child_process'
import { lowerPriority, MAX_NICENESS } from '../../pool/process/priority.js'
import { endsWithin, isRunning } from '../chaos/processes.js'

/** How long a process may take to end when it has been told to. */
const END_MS = 5_000

/** A process of the harness, seen from it: what it is told, and what it says. */
export class Actor<Told extends object, Said extends { readonly what: string }> {
  readonly #child: ChildProcess
  #said: Said[] = []
  #wake: () => void = () => {}
  #errors = ''

  /** @param isElsewhere it stands for one on another machine: it has the CPU where nobody else wants it. */
  constructor(module: URL, options: object, env: NodeJS.ProcessEnv, isElsewhere = false) {
    const child = fork(module, [JSON.stringify(options)], {
      env,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      // Of its own session, as each of the server's workers: Linux may weigh sessions against each other.
      detached: true,
    })
    this.#child = child
    if (isElsewhere && child.pid !== undefined) lowerPriority(child.pid, MAX_NICENESS, () => isRunning(child))
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-5_000)
    })
    this.#child.on('message', (said: Said) => {
      this.#said.push(said)
      this.#wake()
    })
    this.#child.on('exit', () => this.#wake())
    // One that has just ended cannot be told anything.
    this.#child.on('error', () => {})
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  tell(told: Told): void {
    if (this.#child.connected) this.#child.send(told)
  }

  /** The next that it says of this kind. Throws where it ends, or is silent for so long. */
  async hear<What extends Said['what']>(what: What, ms: number): Promise<Extract<Said, { what: What }>> {
    const until = performance.now() + ms
    for (;;) {
      const at = this.#said.findIndex((said) => said.what === what)
      const [said] = at < 0 ? [] : this.#said.splice(at, 1)
      if (said) return said as Extract<Said, { what: What }>
      const left = until - performance.now()
      if (!isRunning(this.#child) || left <= 0) {
        const { exitCode, signalCode } = this.#child
        const why = left <= 0 ? `has said nothing for ${ms} ms` : `ended with ${signalCode ?? exitCode}`
        throw new Error(`a process that should say '${what}' ${why}\n${this.#errors}`)
      }
      await this.#word(left)
    }
  }

  #word(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Resolves when it has ended; kills it where it does not do so by itself. */
  async end(): Promise<void> {
    if (await endsWithin(this.#child, END_MS)) return
    this.#child.kill('SIGKILL')
    await endsWithin(this.#child, END_MS)
  }
}
