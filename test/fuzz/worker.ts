import { fileURLToPath } from 'node:url'
import { clientOfBuild, isFarpoolError, type Pool } from '../chaos/farpool.js'
import { BareWorker } from './bare-worker.js'
import { Subject } from './subject.js'
import { Broken, type Target, within } from './target.js'
import { addCommand, workerCommands } from './worker-commands.js'
import { workerReports } from './worker-reports.js'

const MUTATED_WORKER = fileURLToPath(new URL('mutated-worker.js', import.meta.url))
/** The timeout of a call: a worker that announced a frame and did not send it whole can report nothing more. */
const CALL_MS = 1_000
/** The longest delay of an outcome or a report on a busy machine. */
const LATE_MS = 30_000
/** The time after which a worker counts as waiting for the rest of a frame. */
const SILENT_MS = 200
const PROCESSES = 4
const WORKER_KIB = 512 * 1024
/** The ids of tasks that need an answer. No mutated command has such an id. */
const FIRST_TASK = 2 ** 40

/** Frames between server and worker: cases with even numbers mutate the worker's reports, odd ones the server's commands. */
export class Worker implements Target {
  readonly lanes = PROCESSES
  readonly #idle: BareWorker[] = []

  private constructor(
    private readonly seed: number,
    private readonly subject: Subject,
    private readonly pool: Pool,
    private readonly startWorker: () => Promise<BareWorker>,
  ) {}

  static async start(seed: number, build: string, env: NodeJS.ProcessEnv, functions: string): Promise<Worker> {
    // The innocent client has an owned pool, whose workers send no mutated reports.
    const innocent = { processes: 1 }
    const processes = PROCESSES / 2
    const subject = await Subject.start({
      build,
      env,
      functions: MUTATED_WORKER,
      processes,
      args: [],
      innocent,
      isDeadly: true,
    })
    const { Pool } = await clientOfBuild(build)
    return new Worker(seed, subject, new Pool(subject.address), () => BareWorker.start(build, env, functions))
  }

  get memory() {
    return this.subject.memory
  }

  bytes(number: number): Buffer {
    return isReport(number) ? workerReports(this.seed, number, 0) : workerCommands(this.seed, number).bytes
  }

  check(): void {
    this.subject.check()
  }

  prove(): Promise<void> {
    return this.subject.prove()
  }

  play(number: number): Promise<string> {
    return isReport(number) ? this.#playReports(number) : this.#playCommands(number)
  }

  /** The workers that sent mutated reports have been replaced: calls must succeed. */
  async rest(): Promise<void> {
    for (const worker of this.#idle.splice(0)) await worker.leave()
    for (let call = 0; call < PROCESSES; call++) {
      const result = await within(LATE_MS, 'no outcome', this.pool.apply('add', [call, 1], undefined, { retries: 3 }))
      if (result !== call + 1)
        throw new Broken(`${call} + 1 is ${JSON.stringify(result)}, in a pool whose workers were replaced`)
    }
    await this.pool.terminate()
    await this.subject.rest()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.#idle.splice(0)) await worker.leave()
    this.pool.terminate().catch(() => {})
    await this.subject[Symbol.asyncDispose]()
  }

  /** A real worker sends the reports to a real server during a call. The call must have an outcome. */
  async #playReports(number: number): Promise<string> {
    const call = this.pool.apply('sendMutated', [this.seed, number], undefined, { timeout: CALL_MS })
    const outcome = Promise.resolve(call).then(
      (value: unknown) => (value === number ? 'reports: the result' : 'reports: another result'),
      (error: unknown) => {
        if (isFarpoolError(error)) return `reports: ${error.reason}`
        throw error
      },
    )
    return within(CALL_MS + LATE_MS, 'a call whose worker sent mutated reports has no outcome', outcome)
  }

  /** A real worker gets the commands. It must answer the valid command behind them, or end. */
  async #playCommands(number: number): Promise<string> {
    const { bytes, isWhole } = workerCommands(this.seed, number)
    const worker = this.#idle.pop() ?? (await this.startWorker())
    const task = FIRST_TASK + number
    const answered = worker.reports((report) => report.$case === 'done' && report.value.task === task)
    worker.write(bytes)
    worker.write(addCommand(task))
    const isAnswered = isWhole
      ? await within(LATE_MS, 'a worker neither answers nor ends', answered)
      : await within(SILENT_MS, '', answered).catch(() => undefined)
    if (worker.residentKiB > WORKER_KIB) throw new Broken(`a worker takes ${worker.residentKiB >> 10} MiB`)
    if (isAnswered) this.#idle.push(worker)
    else if (worker.isRunning) await worker.leave()
    if (isAnswered === undefined) return 'commands: waits for more'
    return isAnswered ? 'commands: goes on' : `commands: ${worker.end}`
  }
}

const isReport = (number: number): boolean => number % 2 === 0
