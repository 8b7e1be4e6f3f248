import type { SchedulerEffects } from '../../pool/scheduler/effects.js'
import { Scheduler, type SchedulerOptions } from '../../pool/scheduler/scheduler.js'
import type { Client, Identity, Job, Outcome, Task } from '../../pool/scheduler/task.js'
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

/** A client whose fields a test may change. By default it has an identity of its own, and is read. */
export interface TestClient extends Client {
  identity: Identity
  isFull: boolean
}

export const makeClient = (facts: Partial<TestClient> = {}): TestClient => ({
  identity: { name: 'test' },
  isFull: false,
  isPaced: true,
  ...facts,
})

/** A further client of the same identity: another stream of one connection. */
export const streamOf = ({ identity }: Client): TestClient => makeClient({ identity })

const named = new Map<string, TestClient>()

/** The client of this name, the same for each call. */
export function clientNamed(name: string): TestClient {
  const client = named.get(name) ?? makeClient({ identity: { name } })
  named.set(name, client)
  return client
}

/** What a test says of a task. A task without a client belongs to the client 'anyone'. */
export interface Facts extends Partial<Omit<Job, 'client'>> {
  readonly client?: Client | string
  readonly bytes?: number
}

export const job = ({ bytes: _, client = 'anyone', ...facts }: Facts = {}): Job => ({
  function: 'f',
  args: [],
  kwargs: undefined,
  spread: false,
  replyKind: 0,
  retries: 0,
  failFast: false,
  allowPartial: false,
  queueTimeoutMs: 0,
  runTimeoutMs: 0,
  neverKilled: false,
  client: typeof client === 'string' ? clientNamed(client) : client,
  ...facts,
})

/** What a scheduler asked for, in order, as words, and the outcomes of its tasks. There is no process and no timer. */
export class Trace {
  readonly #asked: string[] = []
  readonly settled = new Map<number, string[]>()
  /** Tasks that wait again, in order. */
  readonly waiting: number[] = []
  readonly failures = new Map<number, Failure>()
  readonly #effects: SchedulerEffects = {
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

  start(options: Partial<SchedulerOptions> = {}, observe?: ConstructorParameters<typeof Scheduler>[2]): Scheduler {
    const scheduler = new Scheduler(
      { processes: 2, maxTasksPerChild: undefined, maxRunningPerClient: undefined, limits: UNLIMITED, ...options },
      this.#effects,
      observe,
    )
    scheduler.start()
    return scheduler
  }

  submit(scheduler: Scheduler, facts: Facts = {}, isHeld = false): Task {
    const settled = (_: number, outcome: Outcome) => {
      if (!outcome.ok) this.failures.set(task.id, outcome.failure)
      const word = outcome.ok ? 'ok' : outcome.failure.reason
      this.settled.set(task.id, [...(this.settled.get(task.id) ?? []), word])
    }
    const args = facts.bytes === undefined ? undefined : [new Uint8Array(facts.bytes)]
    const task: Task = scheduler.submit({
      job: job(facts),
      args,
      chunk: undefined,
      owner: { settled },
      key: 0,
      isHeld,
    })
    return task
  }

  /** What was asked for since the last look. */
  look(): string[] {
    return this.#asked.splice(0)
  }
}
