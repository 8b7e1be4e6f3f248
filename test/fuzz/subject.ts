import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { clientOfBuild, type OwnedPoolOptions, type Pool } from '../chaos/farpool.js'
import { residentKiB } from '../chaos/processes.js'
import { ServerUnderTest } from '../chaos/server.js'
import { Broken, within } from './target.js'

export interface SubjectOptions {
  readonly build: string
  readonly env: NodeJS.ProcessEnv
  /** Path of the module of functions. */
  readonly functions: string
  readonly processes: number
  readonly args: readonly string[]
  /** The options of the innocent client's pool. With any option it is an owned pool. */
  readonly innocent: OwnedPoolOptions
  /** True if cases may end workers. */
  readonly isDeadly: boolean
}

/** The most memory that a server may use beyond its memory at the start. */
const MOST_KIB = 512 * 1024

const CHECK_EVERY_MS = 100
/** The pause between two innocent calls, which leaves the CPU to the cases. */
const PAUSE_MS = 3
/** The timeout of an innocent call. */
const CALL_MS = 30_000
/** The time for cleaning up after the last case. Pings find dead connections in 20 s. */
const REST_MS = 45_000
const DRAIN_MS = 2_000

/** A real server under test, with an innocent client that calls it all the time. Checks both against the rules. */
export class Subject implements AsyncDisposable {
  readonly #server: ServerUnderTest
  readonly #isDeadly: boolean
  #pool: Pool | undefined
  #fault: string | undefined
  #isOver = false
  #innocent: Promise<void> = Promise.resolve()
  #watch: NodeJS.Timeout | undefined
  #before = { descriptors: 0, children: 0 }
  #deaths = 0
  /** Calls of the innocent client. */
  calls = 0
  readonly memory = { fromKib: 0, mostKib: 0 }

  private constructor({ build, env, functions, processes, args, isDeadly }: SubjectOptions) {
    this.#isDeadly = isDeadly
    this.#server = new ServerUnderTest({
      build,
      listen: '127.0.0.1:0',
      processes,
      drainMs: DRAIN_MS,
      env,
      module: functions,
      // Dead connections are noticed soon.
      args: ['--ping-timeout', '15000', ...args],
      onLog: ({ level, msg }) => {
        if (level === 40 && msg === 'worker has ended') this.#deaths++
      },
    })
  }

  static async start(options: SubjectOptions): Promise<Subject> {
    const subject = new Subject(options)
    try {
      await subject.#start(options)
    } catch (error) {
      await subject[Symbol.asyncDispose]()
      throw error
    }
    return subject
  }

  get address(): string {
    return this.#server.address
  }

  get pid(): number {
    return this.#server.pid
  }

  /** The number of workers that died. */
  get deaths(): number {
    return this.#deaths
  }

  async #start({ build, innocent }: SubjectOptions): Promise<void> {
    await this.#server.start()
    const { Pool } = await clientOfBuild(build)
    const pool = new Pool(this.#server.address, innocent)
    this.#pool = pool
    for (let warm = 0; warm < 200; warm++) await this.#call(pool)
    this.memory.fromKib = residentKiB(this.pid)
    this.#before = { descriptors: this.#descriptors, children: this.#children }
    this.#watch = setInterval(() => this.#checkServer(), CHECK_EVERY_MS)
    this.#innocent = this.#callOn(pool).catch((error) => this.#fail(`an innocent call: ${error}`))
  }

  /** Throws Broken if a rule was found broken. */
  check(): void {
    if (this.#fault !== undefined) throw new Broken(this.#fault)
  }

  /** Makes one more innocent call, then checks. */
  async prove(): Promise<void> {
    if (this.#pool) await this.#call(this.#pool).catch((error) => this.#fail(`an innocent call: ${error}`))
    this.#checkServer()
    this.check()
  }

  /** Waits until the server is as it was before the first case. Throws Broken if it is not after REST_MS. */
  async rest(): Promise<void> {
    const end = performance.now() + REST_MS
    for (;;) {
      this.#checkServer()
      this.check()
      const left = await this.#left()
      if (left === undefined) break
      if (performance.now() > end) throw new Broken(`${left}, ${REST_MS / 1_000} s after the last case`)
      await sleep(CHECK_EVERY_MS)
    }
    if (!this.#isDeadly && this.#deaths > 0) throw new Broken(`${this.#deaths} workers have died`)
    this.check()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true
    clearInterval(this.#watch)
    await this.#innocent
    // Without a server there is nothing to terminate.
    if (this.#server.isRunning) await this.#pool?.terminate()
    else this.#pool?.terminate().catch(() => {})
    await this.#server.drain()
  }

  async #callOn(pool: Pool): Promise<void> {
    while (!this.#isOver && this.#fault === undefined) {
      await this.#call(pool)
      await sleep(PAUSE_MS)
    }
  }

  async #call(pool: Pool): Promise<void> {
    const number = this.calls++
    const sum = await within(CALL_MS, 'no outcome', pool.apply('add', [number, 1], undefined, { timeout: CALL_MS }))
    if (sum !== number + 1) throw new Broken(`${number} + 1 is ${JSON.stringify(sum)}`)
  }

  #checkServer(): void {
    if (!this.#server.isRunning) return this.#fail('the server has ended')
    const kib = residentKiB(this.pid)
    this.memory.mostKib = Math.max(this.memory.mostKib, kib)
    if (kib > this.memory.fromKib + MOST_KIB)
      this.#fail(`the server takes ${kib >> 10} MiB; it took ${this.memory.fromKib >> 10} MiB before`)
    const complaint = this.#server.complaints.find((line) => !isOfOwnedPool(line))
    if (complaint !== undefined) this.#fail(`the server logged: ${complaint}`)
    if (!this.#isDeadly && this.#deaths > 0) this.#fail('a worker has died')
  }

  #fail(what: string): void {
    this.#fault ??=
      this.#server.complaints.length > 0 ? `${what}\n${this.#server.complaints.slice(0, 40).join('\n')}` : what
  }

  /** What the cases have left behind, as text. */
  async #left(): Promise<string | undefined> {
    const { queued, running } = (await this.#pool?.info()) ?? { queued: 0, running: 0 }
    // One task may be the innocent client's.
    if (queued + running > 1) return `${queued} tasks are queued and ${running} run`
    const { descriptors, children } = this.#before
    if (this.#descriptors > descriptors) return `the server has ${this.#descriptors} descriptors; it had ${descriptors}`
    if (this.#children !== children) return `the server has ${this.#children} processes; it had ${children}`
    return undefined
  }

  get #descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length
  }

  get #children(): number {
    return readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8').trim().split(' ').length
  }
}

/** True if the log line reports the failure of an owned pool that a case opened with a bad initializer: not a fault. */
const isOfOwnedPool = (line: string): boolean =>
  /"pool":"pool-[^"]+","reason":"(INITIALIZER_FAILED|PAYLOAD_DECODE_FAILED)"/.test(line)
