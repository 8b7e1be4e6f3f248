import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { clientOfBuild } from '../chaos/farpool.js'
import { childrenOf, cpuMs } from '../chaos/processes.js'
import { ServerUnderTest } from '../chaos/server.js'
import type { Stage } from '../chaos/stage.js'
import { CONTROL } from './attacks/attacks.js'
import { costOf, type Episode, type KindFigures } from './figures.js'
import { HarnessProcess } from './harness-process.js'
import type {
  HostileCommand,
  HostileOptions,
  HostileReport,
  InnocentCommand,
  InnocentOptions,
  InnocentReport,
} from './messages.js'
import type { Options } from './options.js'

type Innocent = HarnessProcess<InnocentCommand, InnocentReport>
type Hostile = HarnessProcess<HostileCommand, HostileReport>

/** The longest start of a process. */
const START_MS = 20_000
/** The longest measurement, beyond its planned time: a call may wait for 20 seconds. */
const LATE_MS = 30_000
/** The longest time between the command to stop and the last report of an attack. */
const STOP_MS = 10_000
/** The time that the server gets to become idle after an attack. */
const IDLE_MS = 15_000
const CHECK_EVERY_MS = 50
/** The CPUs that an idle server may use. */
const IDLE_CPUS = 0.2
/** The CPUs that a control burns at least. */
const MIN_CPUS = 0.01

/** One server, one process of the innocent client, and for each measurement at most one hostile process beside it. */
export class Experiment {
  readonly #server: ServerUnderTest
  #innocent: Innocent | undefined
  /** All faults that are not a failed call of the innocent client. */
  readonly complaints: string[] = []

  constructor(
    private readonly options: Options,
    private readonly build: string,
    private readonly stage: Stage,
  ) {
    this.#server = new ServerUnderTest({
      build,
      listen: '127.0.0.1:0',
      processes: options.processes,
      drainMs: 0,
      env: stage.env,
      args: options.maxRunning > 0 ? ['--max-running-per-client', String(options.maxRunning)] : [],
      module: fileURLToPath(new URL('functions.js', import.meta.url)),
      nodeFlags: options.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${options.profile}`],
    })
  }

  async begin(): Promise<void> {
    await this.#server.start()
    const options: InnocentOptions = { address: this.#server.address, build: this.build, rate: this.options.rate }
    this.#innocent = new HarnessProcess(new URL('innocent.js', import.meta.url), options, this.stage.env)
    await this.#innocent.receive('ready', START_MS)
    // Warm up: the first measurement would be of code that has never run.
    await this.#measure()
  }

  /**
   * Measures one kind of attack. Each pair measures the innocent client alone, beside the attack, and beside the control: a
   * process that burns as much CPU as the attack cost, and does not call the server.
   */
  async measureKind(kind: string): Promise<KindFigures> {
    const figures: KindFigures = { kind, calm: [], hostile: [], control: [] }
    for (let pair = 0; pair < this.options.pairs; pair++) {
      const calm = this.options.quick ? undefined : await this.#measure()
      const hostile = await this.#beside(kind, 0)
      figures.hostile.push(hostile)
      if (calm) {
        figures.calm.push(calm)
        const cost = costOf(hostile, calm) + (this.options.here ? hostile.hostileCpu : 0)
        figures.control.push(await this.#beside(CONTROL, Math.max(MIN_CPUS, cost)))
      }
      if (!this.#server.isRunning) throw new Error(`the server has ended, under ${kind}`)
    }
    return figures
  }

  async end(): Promise<void> {
    this.#innocent?.send({ type: 'finish' })
    await this.#innocent?.end()
    const code = await this.#server.drain()
    if (code !== 0) this.complaints.push(`after SIGTERM the server ended with ${code}`)
    this.complaints.push(...this.#server.complaints)
  }

  async #beside(kind: string, cpus: number): Promise<Episode> {
    const { processes } = this.options
    const options: HostileOptions = { address: this.#server.address, build: this.build, kind, processes, cpus }
    const isElsewhere = kind !== CONTROL && !this.options.here
    const hostile: Hostile = new HarnessProcess(
      new URL('hostile.js', import.meta.url),
      options,
      this.stage.env,
      isElsewhere,
    )
    await hostile.receive('begun', START_MS)
    const episode = await this.#measure(hostile)
    hostile.send({ type: 'stop' })
    const { done } = await hostile.receive('stopped', STOP_MS).catch((error: Error) => {
      this.complaints.push(`${kind}: ${error.message.trim()}`)
      return { done: {} }
    })
    await hostile.end()
    await this.#waitUntilIdle(kind)
    return { ...episode, done }
  }

  async #measure(hostile?: Hostile): Promise<Episode> {
    const { seconds } = this.options
    const innocent = this.#innocent as Innocent
    const workers = childrenOf(this.#server.pid)
    const used = () =>
      [
        cpuMs(hostile?.pid ?? 0),
        cpuMs(this.#server.pid),
        workers.reduce((sum, worker) => sum + cpuMs(worker), 0),
      ] as const
    const from = performance.now()
    const before = used()
    innocent.send({ type: 'measure', seconds })
    const { tiny, other, failures } = await innocent.receive('measured', seconds * 1_000 + LATE_MS)
    const took = performance.now() - from
    const after = used()
    return {
      tiny,
      other,
      failures,
      hostileCpu: (after[0] - before[0]) / took,
      serverCpu: (after[1] - before[1]) / took,
      workersCpu: (after[2] - before[2]) / took,
      done: {},
    }
  }

  /** Waits until the server has no tasks and uses little CPU. It polls: there is no event for that. */
  async #waitUntilIdle(kind: string): Promise<void> {
    const { Pool } = await clientOfBuild(this.build)
    const pool = new Pool(this.#server.address)
    const until = performance.now() + IDLE_MS
    try {
      for (;;) {
        const cpu = cpuMs(this.#server.pid)
        const from = performance.now()
        await sleep(CHECK_EVERY_MS)
        const { queued, running } = await pool.info()
        const cpus = (cpuMs(this.#server.pid) - cpu) / (performance.now() - from)
        if (queued + running === 0 && cpus < IDLE_CPUS) return
        if (performance.now() < until) continue
        this.complaints.push(`after ${kind} the server was not idle in time: ${queued} queued, ${running} running`)
        return
      }
    } finally {
      await pool.terminate()
    }
  }
}
