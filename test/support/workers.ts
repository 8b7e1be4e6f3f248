import type { Edges } from '../../pool/scheduler/effects.js'
import { Scheduler, type SchedulerOptions } from '../../pool/scheduler/scheduler.js'
import type { Client, Task } from '../../pool/scheduler/task.js'
import { type Failure, Failure as Reason } from '../../wire/failure.js'
import { died, exited, type Facts, job, ok } from './scheduler.js'

/** Everything that a worker has been told, as it would stand in a frame. */
type Frame = { kind: 'run'; entries: readonly Entry[] } | { kind: 'abort'; task: number } | { kind: 'stop' }

interface Entry {
  readonly task: Task
  /** As the frame says: the server's own number may grow meanwhile. */
  readonly attempt: number
  readonly beginBy: number
}

/**
 * A worker that keeps to worker.proto, with a socket in which both ways take as long as a test wants: it reads one
 * frame, makes one step, is heard by one word, whenever it is told to.
 */
export class HonestWorker {
  readonly inbox: Frame[] = []
  /** What the server has not heard yet. */
  readonly said: (() => void)[] = []
  isStarting = true
  isGone = false
  #isStopping = false
  #waiting: Entry[] = []
  #running: Entry | undefined
  readonly #aborted = new Set<number>()
  /** The `done` of the task before has told that the next begins. */
  #isTold = false

  constructor(
    private readonly id: number,
    private readonly farm: Farm,
  ) {}

  ready(): void {
    if (this.isGone || !this.isStarting) return
    this.isStarting = false
    this.said.push(() => this.farm.scheduler.ready(this.id))
  }

  read(): boolean {
    const frame = this.isGone || this.isStarting ? undefined : this.inbox.shift()
    if (frame?.kind === 'run') this.#waiting.push(...frame.entries)
    if (frame?.kind === 'abort') this.#aborted.add(frame.task)
    if (frame?.kind === 'stop') this.#isStopping = true
    return frame !== undefined
  }

  /** Ends what runs, or else begins the next or returns what is late. */
  step(): boolean {
    if (this.isGone || this.isStarting) return false
    if (this.#running) this.#end(this.#running.task, 0.01)
    else if (this.#waiting.length > 0) this.#begin()
    else if (this.#isStopping) this.die(false)
    else return false
    return true
  }

  /** What it has said is heard before its end. */
  die(isCrash: boolean): void {
    if (this.isGone) return
    this.isGone = true
    this.inbox.length = 0
    this.said.push(() => this.farm.exited(this.id, isCrash))
  }

  hear(): boolean {
    const word = this.said.shift()
    word?.()
    return word !== undefined
  }

  #begin(): void {
    const isLate = ({ beginBy }: Entry) => beginBy > 0 && this.farm.now >= beginBy
    const late = this.#waiting.findIndex((entry) => !isLate(entry))
    const returned = this.#waiting.splice(0, late < 0 ? this.#waiting.length : late).map(({ task }) => task.id)
    if (returned.length > 0) {
      this.#isTold = false
      this.said.push(() => this.farm.returned(this.id, returned))
      return
    }
    const entry = this.#waiting.shift() as Entry
    if (this.#aborted.delete(entry.task.id)) return this.#end(entry.task, 0)
    this.farm.begun(this.id, entry.task, entry.attempt)
    this.#running = entry
    if (!this.#isTold) this.said.push(() => this.farm.scheduler.started(this.id, entry.task.id))
  }

  #end(task: Task, ranMs: number): void {
    this.#running = undefined
    this.#isTold = this.#waiting.length > 0
    this.said.push(() => this.farm.scheduler.done(this.id, task.id, ok, ranMs))
  }
}

/** A scheduler with honest workers, and what has to hold of both at every moment. */
export class Farm {
  now = 1_000
  readonly workers = new Map<number, HonestWorker>()
  readonly tasks: Task[] = []
  /** By task, each word that its owner was told. */
  readonly settled = new Map<number, string[]>()
  /** What is wrong, as a sentence. */
  readonly wrong: string[] = []
  /** What contradicts P5; apart, since the scheduler does not keep to it yet (hands.known.test.ts). */
  readonly overdue: string[] = []
  readonly scheduler: Scheduler
  ended = 0
  readonly #begun = new Set<string>()
  readonly #begunBy = new Map<number, number>()
  /** By worker, what was reclaimed and has not been returned. */
  readonly #stale = new Map<number, Set<number>>()
  /** By worker, the task for which it was last called overdue. */
  readonly #overdue = new Map<number, number>()
  /** By worker, for which connection it began to work when it had nothing in hand. */
  readonly #holders = new Map<number, Client | object>()

  constructor(private readonly options: SchedulerOptions) {
    const worker = (id: number) => this.workers.get(id) as HonestWorker
    const edges: Edges = {
      spawn: (id) => this.workers.set(id, new HonestWorker(id, this)),
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
      overdue: (id) => this.#overdue.set(id, this.scheduler.worker(id)?.hand.first?.id ?? 0),
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
    // The scheduler may give it to a worker before it returns it.
    this.tasks.push(this.scheduler.submit(job(facts), undefined, undefined, { settled }, key))
  }

  end(at: number): void {
    const task = this.tasks[at]
    if (task) this.scheduler.end(task, new Reason('CANCELLED', 'gone'))
  }

  /** As the pool does: what a worker has said until it is found late is heard first (P8). */
  reclaim(): void {
    for (const id of this.scheduler.late(this.now)) {
      const worker = this.workers.get(id)
      while (worker?.hear());
      const before = [...(this.scheduler.worker(id)?.hand ?? [])]
      this.scheduler.reclaim(id, this.now)
      const slot = this.scheduler.worker(id)
      const gone = before.filter((task) => !slot?.hand.has(task)).map((task) => task.id)
      this.#stale.set(id, new Set([...(this.#stale.get(id) ?? []), ...gone]))
    }
  }

  returned(id: number, tasks: readonly number[]): void {
    for (const task of tasks) this.#stale.get(id)?.delete(task)
    this.scheduler.returned(id, tasks)
  }

  exited(id: number, isCrash: boolean): void {
    this.workers.delete(id)
    this.#stale.delete(id)
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

  /** Makes everything move until nothing does. */
  settle(): void {
    for (let moves = true; moves; ) {
      moves = this.scheduler.feed(this.now)
      for (const worker of [...this.workers.values()]) {
        if (worker.isStarting) worker.ready()
        while (worker.read()) moves = true
        if (worker.step()) moves = true
        while (worker.hear()) moves = true
      }
      this.now++
      this.reclaim()
    }
  }

  /** What is wrong now. */
  check(): string[] {
    const { wrong, scheduler } = this
    const places = new Map<Task, number>()
    let living = 0
    for (const [id] of this.workers) {
      const slot = scheduler.worker(id)
      if (!slot) continue
      if (slot.phase !== 'stopping') living++
      for (const task of slot.hand) places.set(task, (places.get(task) ?? 0) + 1)
      const { first } = slot.hand
      if (first?.settled && scheduler.state.kind !== 'terminated' && this.#overdue.get(id) !== first.id) {
        this.overdue.push(`worker ${id} may run task ${first.id}, which was ended, for ever`)
      }
    }
    for (const task of this.tasks) {
      const count = (places.get(task) ?? 0) + (task.line === undefined ? 0 : 1)
      if (count > 1 || (count === 0 && !task.settled)) wrong.push(`task ${task.id} is in ${count} places (P1)`)
      if (task.settled && task.line !== undefined) wrong.push(`task ${task.id} is settled and waits (P1)`)
    }
    for (const [key, told] of this.settled) if (told.length > 1) wrong.push(`owner of ${key} was told ${told} (P2)`)
    if (scheduler.state.kind === 'open' && living !== this.options.processes) wrong.push(`${living} workers (P4)`)
    this.#checkHolders()
    const { submitted, succeeded, failed, cancelled, queued, running } = scheduler.stats
    if (queued < 0 || submitted !== queued + running + succeeded + failed + cancelled)
      wrong.push('the stats do not add up')
    return wrong
  }

  /** How many workers a connection has: those that have something for it in hand, or to return. */
  #held(connection: Client | object): number {
    let held = 0
    for (const [id, holder] of this.#holders)
      if (holder === connection && this.scheduler.worker(id)?.hand.isEmpty === false) held++
    return held
  }

  /** Nobody has more workers than the limit, and nobody has to wait who has fewer, while one is idle. */
  #checkHolders(): void {
    const { wrong, scheduler, options } = this
    const { maxRunningPerClient: most = options.processes } = options
    for (const [id, holder] of this.#holders) {
      const slot = scheduler.worker(id)
      if (!slot) this.#holders.delete(id)
      if (this.#held(holder) > most) wrong.push(`${this.#held(holder)} workers are one connection's (P9)`)
      if (most >= options.processes) continue
      for (const task of slot?.hand ?? [])
        if (connectionOf(task) !== holder) wrong.push(`worker ${id} has a task of another connection in hand (P9)`)
    }
    if (![...this.workers.keys()].some((id) => scheduler.worker(id)?.phase === 'idle')) return
    for (const task of this.tasks) {
      if (task.line === undefined || isFull(task) || this.#held(connectionOf(task)) >= most) continue
      wrong.push(`task ${task.id} waits while a worker is idle that it may have (P9)`)
    }
  }

  #checkRun(id: number, tasks: readonly Task[], beginBy: number): void {
    const first = this.scheduler.worker(id)?.hand.first
    if (first?.settled) this.overdue.push(`worker ${id} was lent more while task ${first.id} was aborted`)
    if (this.workers.get(id)?.isStarting) this.wrong.push(`worker ${id} was given tasks before it was ready (P3)`)
    for (const task of tasks) if (task.settled) this.wrong.push(`task ${task.id} was ended and given (P1)`)
    if (beginBy === 0) {
      for (const task of tasks) this.#holders.set(id, connectionOf(task))
      return
    }
    const { processes, maxRunningPerClient: most = processes } = this.options
    const hasAll = most < processes && tasks.every((task) => this.#held(connectionOf(task)) >= most)
    for (const other of this.workers.keys())
      if (this.scheduler.worker(other)?.phase === 'idle' && !hasAll)
        this.wrong.push(`lent while worker ${other} was idle (P3)`)
    if ((this.#stale.get(id)?.size ?? 0) > 0) this.wrong.push(`worker ${id} was lent more before it returned (P8)`)
  }
}

const connectionOf = ({ job: { client } }: Task): Client | object =>
  typeof client === 'string' ? client : (client.connection ?? client)

const isFull = ({ job: { client } }: Task): boolean => typeof client === 'object' && client.isFull
