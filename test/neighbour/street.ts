import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { clientOfBuild } from '../chaos/farpool.js'
import { childrenOf, cpuMs } from '../chaos/processes.js'
import { ServerUnderTest } from '../chaos/server.js'
import type { Stage } from '../chaos/stage.js'
import { Actor } from './actor.js'
import { CONTROL } from './attacks/attacks.js'
import { costOf, type Episode, type KindFigures } from './figures.js'
import type { FromHostile, FromInnocent, HostileOptions, InnocentOptions, ToHostile, ToInnocent } from './messages.js'
import type { Options } from './options.js'

type Innocent = Actor<ToInnocent, FromInnocent>
type Hostile = Actor<ToHostile, FromHostile>

/** Starting, a measurement beyond its time (calls may wait twenty seconds), an attack's last word. */
const START_MS = 20_000
const LATE_MS = 30_000
const STOP_MS = 10_000
/** After an attack the server is given so long to be as idle as before. */
const QUIET_MS = 15_000
const LOOK_MS = 50
/** CPUs' worth that an idle server may take. */
const IDLE_CPU = 0.2
/** What a control burns at least, of a CPU. */
const LEAST_SHARE = 0.01

/** Where the innocent lives, and hostile clients come and go: one server, one innocent process, one attack at a time. */
export class Street {
  readonly #server: ServerUnderTest
  #innocent: Innocent | undefined
  /** What went wrong that is no failed call. */
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
    this.#innocent = new Actor(new URL('innocent.js', import.meta.url), options, this.stage.env)
    await this.#innocent.hear('ready', START_MS)
    // The first measurement is of code that has never run.
    await this.#measure()
  }

  /** Measures one kind: calm, hostile, and beside as much CPU burnt as that took, in turns. */
  async suffer(kind: string): Promise<KindFigures> {
    const figures: KindFigures = { kind, calm: [], hostile: [], control: [] }
    for (let pair = 0; pair < this.options.pairs; pair++) {
      const calm = this.options.quick ? undefined : await this.#measure()
      const hostile = await this.#beside(kind, 0)
      figures.hostile.push(hostile)
      if (calm) {
        figures.calm.push(calm)
        const cost = costOf(hostile, calm) + (this.options.here ? hostile.hostileCpu : 0)
        figures.control.push(await this.#beside(CONTROL, Math.max(LEAST_SHARE, cost)))
      }
      if (!this.#server.isRunning) throw new Error(`the server has ended, under ${kind}`)
    }
    return figures
  }

  async end(): Promise<void> {
    this.#innocent?.tell({ what: 'finish' })
    await this.#innocent?.end()
    const code = await this.#server.drain()
    if (code !== 0) this.complaints.push(`after SIGTERM the server ended with ${code}`)
    this.complaints.push(...this.#server.complaints)
  }

  async #beside(kind: string, share: number): Promise<Episode> {
    const { processes } = this.options
    const options: HostileOptions = { address: this.#server.address, build: this.build, kind, processes, share }
    const isElsewhere = kind !== CONTROL && !this.options.here
    const hostile: Hostile = new Actor(new URL('hostile.js', import.meta.url), options, this.stage.env, isElsewhere)
    await hostile.hear('begun', START_MS)
    const episode = await this.#measure(hostile)
    hostile.tell({ what: 'stop' })
    const { done } = await hostile.hear('stopped', STOP_MS).catch((error: Error) => {
      this.complaints.push(`${kind}: ${error.message.trim()}`)
      return { done: {} }
    })
    await hostile.end()
    await this.#quiet(kind)
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
    innocent.tell({ what: 'measure', seconds })
    const { tiny, other, failures } = await innocent.hear('measured', seconds * 1_000 + LATE_MS)
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

  /** Waits until nothing of an attack goes on; there is no event for that. */
  async #quiet(kind: string): Promise<void> {
    const { Pool } = await clientOfBuild(this.build)
    const pool = new Pool(this.#server.address)
    const until = performance.now() + QUIET_MS
    try {
      for (;;) {
        const cpu = cpuMs(this.#server.pid)
        const from = performance.now()
        await sleep(LOOK_MS)
        const { queued, running } = await pool.info()
        const share = (cpuMs(this.#server.pid) - cpu) / (performance.now() - from)
        if (queued + running === 0 && share < IDLE_CPU) return
        if (performance.now() < until) continue
        this.complaints.push(`after ${kind} the server was not idle in time: ${queued} queued, ${running} running`)
        return
      }
    } finally {
      await pool.terminate()
    }
  }
}
