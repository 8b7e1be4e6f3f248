import type { Edges } from '../../pool/scheduler/effects.js'
import { Scheduler, type SchedulerOptions } from '../../pool/scheduler/scheduler.js'
import type { Job, Outcome, Task } from '../../pool/scheduler/task.js'
import { Failure } from '../../wire/failure.js'

export const ok: Outcome = { ok: true, payload: new Uint8Array([1]), failures: [] }
export const died = { pid: 7, exitCode: undefined, signal: 'SIGKILL' }
export const exited = { pid: 7, exitCode: 0, signal: undefined }
export const cancelled = new Failure('CANCELLED', 'gone')

export const UNLIMITED = {
  maxQueued: Number.POSITIVE_INFINITY,
  maxQueuedPerClient: Number.POSITIVE_INFINITY,
  maxQueuedBytes: Number.POSITIVE_INFINITY,
}

/** A task as a test wants it; one without a client belongs to the client that all others without one have. */
export interface Facts extends Partial<Job> {
  readonly bytes?: number
}

export const job = ({ bytes: _, ...facts }: Facts = {}): Job => ({
  function: 'f',
  args: [],
  kwargs: undefined,
  spread: false,
  replyKind: 0,
  retries: 0,
  failFast: false,
  queueTimeoutMs: 0,
  runTimeoutMs: 0,
  neverKilled: false,
  client: 'client',
  ...facts,
})

/** What a scheduler asked for, in order, as words, and what became of its tasks: no process, no timer. */
export class Trace {
  readonly #asked: string[] = []
  readonly settled = new Map<number, string[]>()
  /** What waits again, in order. */
  readonly waiting: number[] = []
  readonly failures = new Map<number, Failure>()
  readonly #edges: Edges = {
    spawn: (worker, delayMs) => this.#asked.push(`spawn ${worker}${delayMs > 0 ? ` after ${delayMs}` : ''}`),
    run: (worker, tasks, beginBy) =>
      this.#asked.push(
        `run ${tasks.map(({ id }) => id).join(' ')} on ${worker}${beginBy === 0 ? '' : ` before ${beginBy}`}`,
      ),
    waits: (task) => this.waiting.push(task.id),
    began: () => {},
    abort: (worker, task, reason) => this.#asked.push(`abort ${task.id} on ${worker}: ${reason.reason}`),
    overdue: (worker) => this.#asked.push(`overdue ${worker}`),
    stop: (worker) => this.#asked.push(`stop ${worker}`),
    kill: (worker) => this.#asked.push(`kill ${worker}`),
    ended: () => this.#asked.push('ended'),
  }

  start(options: Partial<SchedulerOptions> = {}): Scheduler {
    const scheduler = new Scheduler(
      { processes: 2, maxTasksPerChild: undefined, maxRunningPerClient: undefined, limits: UNLIMITED, ...options },
      this.#edges,
    )
    scheduler.start()
    return scheduler
  }

  submit(scheduler: Scheduler, facts: Facts = {}, held = false): Task {
    const told = (outcome: Outcome) => {
      if (!outcome.ok) this.failures.set(task.id, outcome.failure)
      const word = outcome.ok ? 'ok' : outcome.failure.reason
      this.settled.set(task.id, [...(this.settled.get(task.id) ?? []), word])
    }
    const args = facts.bytes === undefined ? undefined : [new Uint8Array(facts.bytes)]
    const task: Task = scheduler.submit(
      job(facts),
      args,
      undefined,
      { settled: (_, outcome) => told(outcome) },
      0,
      held,
    )
    return task
  }

  /** What was asked for since the last look. */
  look(): string[] {
    return this.#asked.splice(0)
  }
}
