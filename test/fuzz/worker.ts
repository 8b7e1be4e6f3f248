import { fileURLToPath } from 'node:url'
import { clientOfBuild, isFarpoolError, type Pool } from '../chaos/farpool.js'
import { BareWorker } from './bare-worker.js'
import { orders, sum } from './orders.js'
import { Subject } from './subject.js'
import { Broken, type Target, within } from './target.js'
import { words } from './words.js'

const BABBLE = fileURLToPath(new URL('babble.js', import.meta.url))
/** A worker that announces a frame and does not send it is deaf: its call ends after so long. */
const CALL_MS = 1_000
/** How much longer a call may take, or a worker to answer an order, on a machine that has much else to do. */
const LATE_MS = 30_000
/** A worker that waits for the rest of a frame has said all it will after so long. */
const SILENT_MS = 200
const PROCESSES = 4
const WORKER_KIB = 512 * 1024
/** Tasks that have to be answered have ids that no mutated order has. */
const FIRST_TASK = 2 ** 40

/** Frames between server and worker: of even numbers those that a worker sends, of odd ones those that it gets. */
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
    // The innocent client has workers that never babble.
    const innocent = { processes: 1 }
    const processes = PROCESSES / 2
    const subject = await Subject.start({
      build,
      env,
      functions: BABBLE,
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
    return isWord(number) ? words(this.seed, number, 0) : orders(this.seed, number).bytes
  }

  check(): void {
    this.subject.check()
  }

  prove(): Promise<void> {
    return this.subject.prove()
  }

  play(number: number): Promise<string> {
    return isWord(number) ? this.#say(number) : this.#order(number)
  }

  /** The workers that babbled were replaced: others answer. */
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

  /** A real worker says it to a real server, in the middle of a call: that has an outcome all the same. */
  async #say(number: number): Promise<string> {
    const call = this.pool.apply('babble', [this.seed, number], undefined, { timeout: CALL_MS })
    const outcome = Promise.resolve(call).then(
      (value: unknown) => (value === number ? 'said: the result' : 'said: another result'),
      (error: unknown) => {
        if (isFarpoolError(error)) return `said: ${error.reason}`
        throw error
      },
    )
    return within(CALL_MS + LATE_MS, 'a call of a worker that babbles has no outcome', outcome)
  }

  /** A real worker gets it, and answers the order behind it; or it ends. */
  async #order(number: number): Promise<string> {
    const { bytes, isWhole } = orders(this.seed, number)
    const worker = this.#idle.pop() ?? (await this.startWorker())
    const task = FIRST_TASK + number
    const answered = worker.word((word) => word.$case === 'done' && word.value.task === task)
    worker.write(bytes)
    worker.write(sum(task))
    const isAnswered = isWhole
      ? await within(LATE_MS, 'a worker neither answers nor ends', answered)
      : await within(SILENT_MS, '', answered).catch(() => undefined)
    if (worker.residentKiB > WORKER_KIB) throw new Broken(`a worker takes ${worker.residentKiB >> 10} MiB`)
    if (isAnswered) this.#idle.push(worker)
    else if (worker.isRunning) await worker.leave()
    if (isAnswered === undefined) return 'ordered: waits for more'
    return isAnswered ? 'ordered: goes on' : `ordered: ${worker.end}`
  }
}

const isWord = (number: number): boolean => number % 2 === 0
