import type { SchedulerEffects } from '../../pool/scheduler/effects.js'
import { Scheduler, type SchedulerOptions } from '../../pool/scheduler/scheduler.js'
import type { Identity, Task } from '../../pool/scheduler/task.js'
import { type Failure, Failure as Reason } from '../../wire/failure.js'
import { died, exited, type Facts, job, ok } from './scheduler.js'

/** The commands to a worker. */
type Command = { kind: 'run'; entries: readonly Entry[] } | { kind: 'abort'; task: number } | { kind: 'stop' }

interface Entry {
  readonly task: Task
  /** As the command says: the number in the task may grow meanwhile. */
  readonly attempt: number
  readonly beginBy: number
}

/**
 * A worker that keeps to worker.proto. Both ways of its socket take as long as a test wants: it reads one command, makes
 * one step, or has one report delivered, whenever the test says so.
 */
export class SimulatedWorker {
  readonly inbox: Command[] = []
  /** Reports that have not been delivered. */
  readonly reports: (() => void)[] = []
  isStarting = true
  isGone = false
  #isStopping = false
  #waiting: Entry[] = []
  #running: Entry | undefined
  readonly #aborted = new Set<number>()
  /** The `done` of the task before implied the start of the next. */
  #startIsKnown = false

  constructor(
    private readonly id: number,
    private readonly simulation: Simulation,
  ) {}

  ready(): void {
    if (this.isGone || !this.isStarting) return
    this.isStarting = false
    this.reports.push(() => this.simulation.scheduler.ready(this.id))
  }

  read(): boolean {
    const frame = this.isGone || this.isStarting ? undefined : this.inbox.shift()
    if (frame?.kind === 'run') this.#waiting.push(...frame.entries)
    if (frame?.kind === 'abort') this.#aborted.add(frame.task)
    if (frame?.kind === 'stop') this.#isStopping = true
    return frame !== undefined
  }

  /** Ends the current task, or else begins the next, or hands back late tasks. */
  step(): boolean {
    if (this.isGone || this.isStarting) return false
    if (this.#running) this.#end(this.#running.task, 0.01)
    else if (this.#waiting.length > 0) this.#begin()
    else if (this.#isStopping) this.die(false)
    else return false
    return true
  }

  /** Its reports are delivered before its exit. */
  die(isCrash: boolean): void {
    if (this.isGone) return
    this.isGone = true
    this.inbox.length = 0
    this.reports.push(() => this.simulation.exited(this.id, isCrash))
  }

  deliver(): boolean {
    const report = this.reports.shift()
    report?.()
    return report !== undefined
  }

  #begin(): void {
    const isLate = ({ beginBy }: Entry) => beginBy > 0 && this.simulation.now >= beginBy
    const late = this.#waiting.findIndex((entry) => !isLate(entry))
    const returned = this.#waiting.splice(0, late < 0 ? this.#waiting.length : late).map(({ task }) => task.id)
    if (returned.length > 0) {
      this.#startIsKnown = false
      this.reports.push(() => this.simulation.handedBack(this.id, returned))
      return
    }
    const entry = this.#waiting.shift() as Entry
    if (this.#aborted.delete(entry.task.id)) return this.#end(entry.task, 0)
    this.simulation.begun(this.id, entry.task, entry.attempt)
    this.#running = entry
    if (!this.#startIsKnown) this.reports.push(() => this.simulation.scheduler.started(this.id, entry.task.id))
  }

  #end(task: Task, ranMs: number): void {
    this.#running = undefined
    this.#startIsKnown = this.#waiting.length > 0
    this.reports.push(() => this.simulation.scheduler.done(this.id, task.id, ok, ranMs))
  }
}

/** A scheduler with simulated workers, and the invariants that must hold at every moment. */
export class Simulation {
  now = 1_000
  readonly workers = new Map<number, SimulatedWorker>()
  readonly tasks: Task[] = []
  /** For each task, the outcomes that its owner got. */
  readonly settled = new Map<number, string[]>()
  /** Violations, as sentences. */
  readonly wrong: string[] = []
  /** Violations of P5. */
  readonly overdue: string[] = []
  readonly scheduler: Scheduler
  ended = 0
  readonly #begun = new Set<string>()
  readonly #begunBy = new Map<number, number>()
  /** For each worker, tasks that were taken back and not handed back yet. */
  readonly #unconfirmed = new Map<number, Set<number>>()
  /** For each worker, the task for which it was last overdue. */
  readonly #overdue = new Map<number, number>()
  /** For each worker, the identity that it began to work for when its run queue was empty. */
  readonly #holders = new Map<number, Identity>()

  constructor(private readonly options: SchedulerOptions) {
    const worker = (id: number) => this.workers.get(id) as SimulatedWorker
    const edges: SchedulerEffects = {
      spawn: (id) => this.workers.set(id, new SimulatedWorker(id, this)),
      run: (id, tasks, beginBy) => {
        this.#checkRun(id, tasks, beginBy)
        worker(id).inbox.push({
          kind: 'run',
          entries: tasks.map((task) => ({ task, attempt: task.attempt, beginBy })),
        })
      },
      waits: () => {},
      began: () => {},
      abort: (id, task) => worker(id).inbox.push({ kind: 'abort', task: task.id }),
      overdue: (id) => this.#overdue.set(id, this.scheduler.worker(id)?.runQueue.first?.id ?? 0),
      stop: (id) => {
        if (worker(id).isStarting) worker(id).die(false)
        else worker(id).inbox.push({ kind: 'stop' })
      },
      kill: (id) => worker(id).die(true),
      ended: () => this.ended++,
    }
    this.scheduler = new Scheduler(options, edges)
    this.scheduler.start()
  }

  submit(facts: Facts): void {
    if (this.scheduler.state.kind !== 'open') return
    const key = this.tasks.length
    const settled = (at: number, outcome: { ok: boolean; failure?: Failure }) => {
      this.settled.set(at, [...(this.settled.get(at) ?? []), outcome.failure?.reason ?? 'ok'])
    }
    this.tasks.push(
      this.scheduler.submit({
        job: job(facts),
        args: undefined,
        chunk: undefined,
        owner: { settled },
        key,
        isHeld: false,
      }),
    )
  }

  end(at: number): void {
    const task = this.tasks[at]
    if (task) this.scheduler.end(task, new Reason('CANCELLED', 'gone'))
  }

  /** As the pool does it: the reports of a worker are delivered before its late tasks are taken back (P8). */
  takeBackLate(): void {
    for (const id of this.scheduler.late(this.now)) {
      const worker = this.workers.get(id)
      while (worker?.deliver());
      const before = [...(this.scheduler.worker(id)?.runQueue ?? [])]
      this.scheduler.takeBackLate(id, this.now)
      const slot = this.scheduler.worker(id)
      const gone = before.filter((task) => !slot?.runQueue.has(task)).map((task) => task.id)
      this.#unconfirmed.set(id, new Set([...(this.#unconfirmed.get(id) ?? []), ...gone]))
    }
  }

  handedBack(id: number, tasks: readonly number[]): void {
    for (const task of tasks) this.#unconfirmed.get(id)?.delete(task)
    this.scheduler.handedBack(id, tasks)
  }

  exited(id: number, isCrash: boolean): void {
    this.workers.delete(id)
    this.#unconfirmed.delete(id)
    this.scheduler.exited(id, isCrash ? died : exited)
  }

  begun(id: number, task: Task, attempt: number): void {
    const name = `${task.id}, attempt ${attempt},`
    if (this.#begun.has(name)) this.wrong.push(`task ${name} has begun twice (P6, P8)`)
    if (attempt > 1 + task.job.retries) this.wrong.push(`task ${name} was not to be tried so often (P6)`)
    this.#begun.add(name)
    this.#begunBy.set(id, (this.#begunBy.get(id) ?? 0) + 1)
    const { maxTasksPerChild: max = Number.POSITIVE_INFINITY } = this.options
    if ((this.#begunBy.get(id) ?? 0) > max) this.wrong.push(`worker ${id} has begun more than ${max}`)
  }

  /** Runs until nothing moves any more. */
  settle(): void {
    for (let moves = true; moves; ) {
      moves = this.scheduler.prefetch(this.now)
      for (const worker of [...this.workers.values()]) {
        if (worker.isStarting) worker.ready()
        while (worker.read()) moves = true
        if (worker.step()) moves = true
        while (worker.deliver()) moves = true
      }
      this.now++
      this.takeBackLate()
    }
  }

  /** The violations so far, and those of this moment. */
  check(): string[] {
    const { wrong, scheduler } = this
    const places = new Map<Task, number>()
    let living = 0
    for (const [id] of this.workers) {
      const slot = scheduler.worker(id)
      if (!slot) continue
      if (slot.phase !== 'stopping') living++
      for (const task of slot.runQueue) places.set(task, (places.get(task) ?? 0) + 1)
      const { first } = slot.runQueue
      if (first?.settled && scheduler.state.kind !== 'terminated' && this.#overdue.get(id) !== first.id) {
        this.overdue.push(`worker ${id} may run task ${first.id}, which was ended, for ever`)
      }
    }
    for (const task of this.tasks) {
      const count = (places.get(task) ?? 0) + (task.list === undefined ? 0 : 1)
      if (count > 1 || (count === 0 && !task.settled)) wrong.push(`task ${task.id} is in ${count} places (P1)`)
      if (task.settled && task.list !== undefined) wrong.push(`task ${task.id} is settled and waits (P1)`)
    }
    for (const [key, told] of this.settled) if (told.length > 1) wrong.push(`owner of ${key} was told ${told} (P2)`)
    if (scheduler.state.kind === 'open' && living !== this.options.processes) wrong.push(`${living} workers (P4)`)
    this.#checkHolders()
    const { submitted, succeeded, failed, cancelled, queued, running } = scheduler.stats
    if (queued < 0 || submitted !== queued + running + succeeded + failed + cancelled)
      wrong.push('the stats do not add up')
    return wrong
  }

  /** How many workers an identity has: those whose run queue is not empty. */
  #held(identity: Identity): number {
    let held = 0
    for (const [id, holder] of this.#holders)
      if (holder === identity && this.scheduler.worker(id)?.runQueue.isEmpty === false) held++
    return held
  }

  /** No identity has more workers than the limit, and none with fewer has to wait while a worker is idle. */
  #checkHolders(): void {
    const { wrong, scheduler, options } = this
    const { maxRunningPerClient: most = options.processes } = options
    for (const [id, holder] of this.#holders) {
      const slot = scheduler.worker(id)
      if (!slot) this.#holders.delete(id)
      if (this.#held(holder) > most) wrong.push(`${this.#held(holder)} workers belong to one identity (P9)`)
      if (most >= options.processes) continue
      for (const task of slot?.runQueue ?? [])
        if (identityOf(task) !== holder) wrong.push(`worker ${id} has a task of another identity (P9)`)
    }
    if (![...this.workers.keys()].some((id) => scheduler.worker(id)?.phase === 'idle')) return
    for (const task of this.tasks) {
      if (task.list === undefined || isFull(task) || this.#held(identityOf(task)) >= most) continue
      wrong.push(`task ${task.id} waits while a worker is idle that it may have (P9)`)
    }
  }

  #checkRun(id: number, tasks: readonly Task[], beginBy: number): void {
    const first = this.scheduler.worker(id)?.runQueue.first
    if (first?.settled) this.overdue.push(`worker ${id} got more while task ${first.id} was aborted`)
    if (this.workers.get(id)?.isStarting) this.wrong.push(`worker ${id} was given tasks before it was ready (P3)`)
    for (const task of tasks) if (task.settled) this.wrong.push(`task ${task.id} was ended and given (P1)`)
    if (beginBy === 0) {
      for (const task of tasks) this.#holders.set(id, identityOf(task))
      return
    }
    const { processes, maxRunningPerClient: most = processes } = this.options
    const hasAll = most < processes && tasks.every((task) => this.#held(identityOf(task)) >= most)
    for (const other of this.workers.keys())
      if (this.scheduler.worker(other)?.phase === 'idle' && !hasAll)
        this.wrong.push(`prefetched while worker ${other} was idle (P3)`)
    if ((this.#unconfirmed.get(id)?.size ?? 0) > 0) this.wrong.push(`worker ${id} got more before it handed back (P8)`)
  }
}

const identityOf = ({ job }: Task): Identity => job.client.identity

const isFull = ({ job }: Task): boolean => job.client.isFull
