import { beforeEach, describe, expect, it } from 'vitest'
import {
  BEGIN_BY_MS,
  LONG_PREFETCH_MS,
  PREFETCH_BYTES,
  PREFETCH_MS,
  PREFETCH_TASKS,
} from '../../pool/scheduler/run-queue.js'
import type { Scheduler, SchedulerOptions } from '../../pool/scheduler/scheduler.js'
import type { Task } from '../../pool/scheduler/task.js'
import { busyWorkers, submitMany } from '../support/busy-workers.js'
import { cancelled, died, exited, type Facts, ok, Trace } from '../support/scheduler.js'

/** Tasks that workers have ahead of time: invariants P2, P3, P5 to P8 of scheduler.ts. */

const NOW = 1_000
const LATE = NOW + BEGIN_BY_MS + 2
let trace: Trace

beforeEach(() => {
  trace = new Trace()
})

const busy = (ranMs: number, facts: Facts = {}, options: Partial<SchedulerOptions> = {}) =>
  busyWorkers(trace, ranMs, facts, options)
const submit = (scheduler: Scheduler, count: number, facts: Facts = {}) => submitMany(trace, scheduler, count, facts)
const ids = (tasks: readonly Task[]) => tasks.map(({ id }) => id).join(' ')

/** Two busy workers with two prefetched tasks each. */
function prefetched() {
  const { scheduler, running } = busy(0.01)
  const waiting = submit(scheduler, 4)
  scheduler.prefetch(NOW)
  trace.look()
  return { scheduler, running: running as [Task, Task], waiting: waiting as [Task, Task, Task, Task] }
}

describe('tasks are prefetched (P3)', () => {
  it('evenly, if their function has been short', () => {
    const { scheduler } = busy(0.01)
    const waiting = submit(scheduler, 4)
    expect(scheduler.prefetch(NOW)).toBe(true)
    expect(trace.look()).toEqual([
      `run ${ids(waiting.slice(0, 2))} on 1 before ${NOW + BEGIN_BY_MS}`,
      `run ${ids(waiting.slice(2))} on 2 before ${NOW + BEGIN_BY_MS}`,
    ])
    expect(scheduler.stats).toMatchObject({ queued: 4, running: 2 })
  })

  it('not if their function has not run yet, or only with another size of arguments', () => {
    const { scheduler } = busy(0.01)
    submit(scheduler, 2, { function: 'new' })
    expect(scheduler.prefetch(NOW)).toBe(false)
    const other = busy(0.01)
    submit(other.scheduler, 2, { bytes: 1_000 })
    expect(other.scheduler.prefetch(NOW)).toBe(false)
  })

  it('not if one of them takes PREFETCH_MS by itself', () => {
    const { scheduler } = busy(PREFETCH_MS)
    submit(scheduler, 2)
    expect(scheduler.prefetch(NOW)).toBe(false)
  })

  it('one at a time up to LONG_PREFETCH_MS, if more wait than the other workers can run meanwhile', () => {
    const { scheduler } = busy(LONG_PREFETCH_MS / 2)
    const waiting = submit(scheduler, 4)
    expect(scheduler.prefetch(NOW)).toBe(false)
    waiting.push(...submit(scheduler, 3))
    scheduler.prefetch(NOW)
    const by = NOW + LONG_PREFETCH_MS / 2 + BEGIN_BY_MS
    expect(trace.look()).toEqual([`run ${waiting[0]?.id} on 1 before ${by}`, `run ${waiting[1]?.id} on 2 before ${by}`])
    expect(scheduler.prefetch(NOW)).toBe(false)
    const longer = busy(LONG_PREFETCH_MS + 1)
    submit(longer.scheduler, 10)
    expect(longer.scheduler.prefetch(NOW)).toBe(false)
  })

  it('up to an estimated PREFETCH_MS together, counting the task that runs', () => {
    const { scheduler } = busy(PREFETCH_MS / 4)
    submit(scheduler, 20)
    scheduler.prefetch(NOW)
    expect(trace.look().map((word) => word.split(' on ')[0]?.split(' ').length)).toEqual([4, 4])
  })

  it('up to PREFETCH_TASKS and PREFETCH_BYTES', () => {
    const many = busy(0.000_001)
    submit(many.scheduler, 3 * PREFETCH_TASKS)
    many.scheduler.prefetch(NOW)
    expect(trace.look().map((word) => word.split(' on ')[0]?.split(' ').length)).toEqual([
      PREFETCH_TASKS,
      PREFETCH_TASKS,
    ])
    const bytes = PREFETCH_BYTES / 4
    const large = busy(0.000_001, { bytes })
    submit(large.scheduler, 20, { bytes })
    large.scheduler.prefetch(NOW)
    expect(trace.look().map((word) => word.split(' on ')[0]?.split(' ').length)).toEqual([4, 4])
  })

  it('not while another worker is idle', () => {
    const scheduler = trace.start()
    scheduler.ready(1)
    scheduler.ready(2)
    scheduler.done(1, trace.submit(scheduler).id, ok, 0.01)
    submit(scheduler, 1)
    expect(scheduler.prefetch(NOW)).toBe(false)
  })

  it('not beyond maxTasksPerChild', () => {
    const { scheduler } = busy(0.01, {}, { maxTasksPerChild: 3 })
    submit(scheduler, 10)
    scheduler.prefetch(NOW)
    // Worker 1 has done one and runs one: it may have one more; worker 2 runs one.
    expect(trace.look().map((word) => word.split(' on ')[0]?.split(' ').length)).toEqual([2, 3])
  })

  it('again when half of them are done, so that they travel together', () => {
    const { scheduler, running } = busy(PREFETCH_MS / 10)
    const waiting = submit(scheduler, 40)
    scheduler.prefetch(NOW)
    trace.look()
    const runQueue = [running[0] as Task, ...waiting.slice(0, 9)]
    for (const task of runQueue.slice(0, 4)) scheduler.done(1, task.id, ok, PREFETCH_MS / 10)
    expect(scheduler.prefetch(NOW)).toBe(false)
    for (const task of runQueue.slice(4, 6)) scheduler.done(1, task.id, ok, PREFETCH_MS / 10)
    expect(scheduler.prefetch(NOW)).toBe(true)
  })
})

describe('a run queue', () => {
  it('is run in order: the end of one task begins the next, and a report out of order changes nothing', () => {
    const { scheduler, running } = busy(0.01, {}, { processes: 2 })
    const [next, last] = submit(scheduler, 4) as [Task, Task]
    scheduler.prefetch(NOW)
    scheduler.done(1, last.id, ok, 0.01)
    expect(trace.settled.has(last.id)).toBe(false)
    scheduler.done(1, running[0].id, ok, 0.01)
    expect([next.started, last.started]).toEqual([true, false])
  })

  it('of a worker that dies: the first task fails, the others run elsewhere, in order and before all waiting tasks (P6)', () => {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(scheduler, 4)
    scheduler.prefetch(NOW)
    const behind = submit(scheduler, 1)
    scheduler.started(1, running[0].id)
    trace.look()
    scheduler.exited(1, died)
    expect(trace.settled.get(running[0].id)).toEqual(['WORKER_CRASHED'])
    scheduler.ready(3)
    expect(trace.look()).toEqual(['spawn 3', `run ${waiting[0]?.id} on 3`])
    scheduler.prefetch(NOW)
    expect(trace.look()).toEqual([
      `run ${waiting[1]?.id} on 2 before ${NOW + BEGIN_BY_MS}`,
      `run ${ids(behind)} on 3 before ${NOW + BEGIN_BY_MS}`,
    ])
  })

  it('keeps a cancelled task until its turn; only then is its worker overdue (P5)', () => {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(scheduler, 4)
    scheduler.prefetch(NOW)
    trace.look()
    scheduler.end(waiting[0] as Task, cancelled)
    expect(trace.look()).toEqual([`abort ${waiting[0]?.id} on 1: CANCELLED`])
    scheduler.done(1, running[0].id, ok, 0.01)
    expect(trace.look()).toEqual(['overdue 1'])
    scheduler.done(1, (waiting[0] as Task).id, ok, 0.01)
    expect(trace.settled.get((waiting[0] as Task).id)).toEqual(['CANCELLED'])
  })

  it('is settled completely, each task once, when the pool is terminated (P2)', () => {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(scheduler, 6)
    scheduler.prefetch(NOW)
    scheduler.terminate()
    scheduler.exited(1, died)
    scheduler.exited(2, exited)
    for (const { id } of [...running, ...waiting]) expect(trace.settled.get(id)).toEqual(['POOL_TERMINATED'])
  })
})

describe('a begin-by time that has passed (P8)', () => {
  it('is noticed, and not before', () => {
    const { scheduler } = prefetched()
    expect(scheduler.hasPrefetched).toBe(true)
    expect(scheduler.late(NOW + BEGIN_BY_MS)).toEqual([])
    expect(scheduler.late(LATE)).toEqual([1, 2])
  })

  it('sends all but the first task to an idle worker, in order', () => {
    const { scheduler, running, waiting } = prefetched()
    for (const task of [running[1], waiting[2], waiting[3]]) scheduler.done(2, task.id, ok, 0.01)
    scheduler.takeBackLate(1, LATE)
    expect(trace.look()).toEqual([`run ${waiting[0].id} on 2`])
    expect(scheduler.prefetch(LATE)).toBe(true)
    expect(trace.look()).toEqual([`run ${waiting[1].id} on 2 before ${LATE + BEGIN_BY_MS}`])
    expect(scheduler.late(LATE)).toEqual([])
  })

  it('gives the worker no further task until it has handed back the late ones', () => {
    const { scheduler, running, waiting } = prefetched()
    scheduler.takeBackLate(1, LATE)
    scheduler.done(1, running[0].id, ok, 0.01)
    expect(scheduler.worker(1)?.phase).toBe('busy')
    expect(trace.look()).toEqual([])
    scheduler.handedBack(1, [waiting[0].id, waiting[1].id])
    expect(trace.look()).toEqual([`run ${waiting[0].id} on 1`])
  })

  it('takes back the first task too, if the worker hands it back', () => {
    const { scheduler, running, waiting } = prefetched()
    scheduler.done(1, running[0].id, ok, 0.01)
    expect(waiting[0].started).toBe(true)
    scheduler.handedBack(1, [waiting[0].id, waiting[1].id])
    expect(trace.look()).toEqual([`run ${waiting[0].id} on 1`])
    expect([waiting[0].started, scheduler.stats.queued]).toEqual([false, 3])
  })

  it('ignores a late report of a task that was taken back', () => {
    const { scheduler, waiting } = prefetched()
    scheduler.takeBackLate(1, LATE)
    scheduler.done(1, waiting[0].id, ok, 0.01)
    expect(trace.settled.has(waiting[0].id)).toBe(false)
  })

  it('drops tasks that were cancelled meanwhile', () => {
    const { scheduler, waiting } = prefetched()
    scheduler.end(waiting[0], cancelled)
    scheduler.takeBackLate(1, LATE)
    expect(scheduler.stats).toMatchObject({ queued: 3, running: 2 })
  })
})

describe('prefetching (P3)', () => {
  it('needs ready workers and waiting tasks', () => {
    const scheduler = trace.start()
    submit(scheduler, 3)
    expect([scheduler.prefetch(NOW), scheduler.hasPrefetched]).toEqual([false, false])
    const { scheduler: other } = busy(0.01)
    expect([other.prefetch(NOW), other.hasPrefetched]).toEqual([false, false])
  })

  it('lets clients take turns', () => {
    const { scheduler } = busy(0.01)
    const many = submit(scheduler, 5, { client: 'many' })
    const [one] = submit(scheduler, 1, { client: 'one' }) as [Task]
    scheduler.prefetch(NOW)
    expect(trace.look()[0]).toBe(`run ${many[0]?.id} ${one.id} ${many[1]?.id} on 1 before ${NOW + BEGIN_BY_MS}`)
  })
})

describe('a task that was cancelled while it ran', () => {
  it('is charged to its client, which then lets others go first', () => {
    const { scheduler, running } = busy(20)
    const [first] = submit(scheduler, 2, { client: 'quitter' }) as [Task]
    const ones = submit(scheduler, 2, { client: 'one' }) as [Task, Task]
    scheduler.done(1, running[0].id, ok, 20)
    scheduler.done(2, running[1].id, ok, 20)
    scheduler.end(first, cancelled)
    trace.look()
    scheduler.done(1, first.id, ok, 20)
    expect(trace.look()).toEqual([`run ${ones[1].id} on 1`])
  })
})

describe('the end of a run queue', () => {
  it('of a worker that dies: the first task runs again as often as its retries allow (P6)', () => {
    const { scheduler, running } = busy(0.01, { retries: 1 })
    const waiting = submit(scheduler, 2)
    scheduler.prefetch(NOW)
    scheduler.started(1, running[0].id)
    scheduler.exited(1, died)
    expect([running[0]?.attempt, waiting[0]?.attempt]).toEqual([2, 1])
    trace.look()
    scheduler.ready(3)
    expect(trace.look()).toEqual([`run ${running[0]?.id} on 3`])
    expect(trace.settled.size).toBe(1)
  })

  it('of a worker that dies after one of its tasks was cancelled: that task is settled once and runs nowhere (P2)', () => {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(scheduler, 4)
    scheduler.prefetch(NOW)
    scheduler.end(waiting[0] as Task, cancelled)
    scheduler.exited(1, died)
    expect(trace.settled.get(waiting[0]?.id ?? 0)).toEqual(['CANCELLED'])
    trace.look()
    scheduler.ready(3)
    // It had not reported that the first task began.
    expect(trace.look()).toEqual([`run ${running[0]?.id} on 3`])
    expect(scheduler.stats).toMatchObject({ queued: 3, running: 2 })
  })

  it('comes when all its tasks are done, if the pool is closed (P7)', () => {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(scheduler, 2)
    scheduler.prefetch(NOW)
    scheduler.close()
    trace.look()
    for (const [worker, at] of [
      [1, 0],
      [2, 1],
    ] as const) {
      scheduler.done(worker, running[at].id, ok, 0.01)
      scheduler.done(worker, waiting[at]?.id ?? 0, ok, 0.01)
    }
    for (const { id } of [...running, ...waiting]) expect(trace.settled.get(id)).toEqual(['ok'])
    expect(trace.look().sort()).toEqual(['stop 1', 'stop 2'])
  })
})

describe('late tasks of a worker (P8)', () => {
  it('stops prefetching for that worker until it has handed back the late tasks', () => {
    const { scheduler, waiting } = prefetched()
    scheduler.takeBackLate(1, LATE)
    scheduler.prefetch(LATE)
    // The tasks of the other worker are late too, but they have not been taken back.
    const words = trace.look()
    expect(words.some((word) => word.includes(' on 1 '))).toBe(false)
    scheduler.handedBack(1, [waiting[0].id, waiting[1].id])
    submit(scheduler, 4)
    expect(scheduler.prefetch(LATE)).toBe(true)
    expect(trace.look().some((word) => word.includes(' on 1 before'))).toBe(true)
  })

  it('that has not passed keeps its tasks where they are', () => {
    const { scheduler } = prefetched()
    scheduler.takeBackLate(1, NOW + BEGIN_BY_MS)
    expect(scheduler.stats).toMatchObject({ queued: 4, running: 2 })
    expect(scheduler.worker(1)?.runQueue.size).toBe(3)
  })
})
