import { beforeEach, describe, expect, it } from 'vitest'
import {
  BEGIN_BY_MS,
  LONG_PREFETCH_MS,
  PREFETCH_BYTES,
  PREFETCH_MS,
  PREFETCH_TASKS,
} from '../../pool/scheduler/run-queue.js'
import type { Scheduler } from '../../pool/scheduler/scheduler.js'
import type { Task } from '../../pool/scheduler/task.js'
import { cancelled, died, exited, type Facts, ok, Trace } from '../support/scheduler.js'

/** Tasks that workers are given ahead: invariants P3, P5, P6 and P8 of scheduler.ts. */

const NOW = 1_000
const LATE = NOW + BEGIN_BY_MS + 2
let trace: Trace

beforeEach(() => {
  trace = new Trace()
})

/** Workers 1 and 2 busy with a task each, of a function that is known to run so long; nothing is queued. */
function busy(ranMs: number, facts: Facts = {}, options = {}): { scheduler: Scheduler; running: Task[] } {
  const scheduler = trace.start(options)
  scheduler.ready(1)
  const first = trace.submit(scheduler, facts)
  scheduler.done(1, first.id, ok, ranMs)
  scheduler.ready(2)
  const running = [trace.submit(scheduler, facts), trace.submit(scheduler, facts)]
  trace.look()
  return { scheduler, running }
}

const submit = (scheduler: Scheduler, count: number, facts: Facts = {}): Task[] =>
  Array.from({ length: count }, () => trace.submit(scheduler, facts))
const ids = (tasks: readonly Task[]) => tasks.map(({ id }) => id).join(' ')

describe('tasks are given ahead (P3)', () => {
  it('evenly, of a function that has been short', () => {
    const { scheduler } = busy(0.01)
    const waiting = submit(scheduler, 4)
    expect(scheduler.feed(NOW)).toBe(true)
    expect(trace.look()).toEqual([
      `run ${ids(waiting.slice(0, 2))} on 1 before ${NOW + BEGIN_BY_MS}`,
      `run ${ids(waiting.slice(2))} on 2 before ${NOW + BEGIN_BY_MS}`,
    ])
    expect(scheduler.stats).toMatchObject({ queued: 4, running: 2 })
  })

  it('not of a function that has not run, or of another size', () => {
    const { scheduler } = busy(0.01)
    submit(scheduler, 2, { function: 'new' })
    expect(scheduler.feed(NOW)).toBe(false)
    const other = busy(0.01)
    submit(other.scheduler, 2, { bytes: 1_000 })
    expect(other.scheduler.feed(NOW)).toBe(false)
  })

  it('not of one that takes as long as a whole hand may', () => {
    const { scheduler } = busy(PREFETCH_MS)
    submit(scheduler, 2)
    expect(scheduler.feed(NOW)).toBe(false)
  })

  it('a single one of up to LONG_PREFETCH_MS where more wait than the others can run meanwhile', () => {
    const { scheduler } = busy(LONG_PREFETCH_MS / 2)
    const waiting = submit(scheduler, 4)
    expect(scheduler.feed(NOW)).toBe(false)
    waiting.push(...submit(scheduler, 3))
    scheduler.feed(NOW)
    const by = NOW + LONG_PREFETCH_MS / 2 + BEGIN_BY_MS
    expect(trace.look()).toEqual([`run ${waiting[0]?.id} on 1 before ${by}`, `run ${waiting[1]?.id} on 2 before ${by}`])
    expect(scheduler.feed(NOW)).toBe(false)
    const longer = busy(LONG_PREFETCH_MS + 1)
    submit(longer.scheduler, 10)
    expect(longer.scheduler.feed(NOW)).toBe(false)
  })

  it('as many as are expected to take PREFETCH_MS, with the one that runs', () => {
    const { scheduler } = busy(PREFETCH_MS / 4)
    submit(scheduler, 20)
    scheduler.feed(NOW)
    expect(trace.look().map((word) => word.split(' on ')[0]?.split(' ').length)).toEqual([4, 4])
  })

  it('at most PREFETCH_TASKS, however short, and PREFETCH_BYTES, however few', () => {
    const many = busy(0.000_001)
    submit(many.scheduler, 3 * PREFETCH_TASKS)
    many.scheduler.feed(NOW)
    expect(trace.look().map((word) => word.split(' on ')[0]?.split(' ').length)).toEqual([
      PREFETCH_TASKS,
      PREFETCH_TASKS,
    ])
    const bytes = PREFETCH_BYTES / 4
    const large = busy(0.000_001, { bytes })
    submit(large.scheduler, 20, { bytes })
    large.scheduler.feed(NOW)
    expect(trace.look().map((word) => word.split(' on ')[0]?.split(' ').length)).toEqual([4, 4])
  })

  it('not while a worker is idle', () => {
    const scheduler = trace.start()
    scheduler.ready(1)
    scheduler.ready(2)
    scheduler.done(1, trace.submit(scheduler).id, ok, 0.01)
    submit(scheduler, 1)
    expect(scheduler.feed(NOW)).toBe(false)
  })

  it('not beyond maxTasksPerChild', () => {
    const { scheduler } = busy(0.01, {}, { maxTasksPerChild: 3 })
    submit(scheduler, 10)
    scheduler.feed(NOW)
    // Worker 1 has done one and runs one: it may have one more; worker 2 runs one.
    expect(trace.look().map((word) => word.split(' on ')[0]?.split(' ').length)).toEqual([2, 3])
  })

  it('again when half of them are done', () => {
    const { scheduler, running } = busy(PREFETCH_MS / 10)
    const waiting = submit(scheduler, 40)
    scheduler.feed(NOW)
    trace.look()
    const hand = [running[0] as Task, ...waiting.slice(0, 9)]
    for (const task of hand.slice(0, 4)) scheduler.done(1, task.id, ok, PREFETCH_MS / 10)
    expect(scheduler.feed(NOW)).toBe(false)
    for (const task of hand.slice(4, 6)) scheduler.done(1, task.id, ok, PREFETCH_MS / 10)
    expect(scheduler.feed(NOW)).toBe(true)
  })
})

describe('a hand', () => {
  it('is run in order: done of one starts the next, and a done out of turn changes nothing', () => {
    const { scheduler, running } = busy(0.01, {}, { processes: 2 })
    const [next, last] = submit(scheduler, 4) as [Task, Task]
    scheduler.feed(NOW)
    scheduler.done(1, last.id, ok, 0.01)
    expect(trace.settled.has(last.id)).toBe(false)
    scheduler.done(1, (running[0] as Task).id, ok, 0.01)
    expect([next.started, last.started]).toEqual([true, false])
  })

  it('of a worker that dies: the first fails, the others run elsewhere, in order and before all others (P6)', () => {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(scheduler, 4)
    scheduler.feed(NOW)
    const behind = submit(scheduler, 1)
    scheduler.started(1, (running[0] as Task).id)
    trace.look()
    scheduler.exited(1, died)
    expect(trace.settled.get((running[0] as Task).id)).toEqual(['WORKER_CRASHED'])
    scheduler.ready(3)
    expect(trace.look()).toEqual(['spawn 3', `run ${waiting[0]?.id} on 3`])
    scheduler.feed(NOW)
    expect(trace.look()).toEqual([
      `run ${waiting[1]?.id} on 2 before ${NOW + BEGIN_BY_MS}`,
      `run ${ids(behind)} on 3 before ${NOW + BEGIN_BY_MS}`,
    ])
  })

  it('keeps what was ended from outside until its turn; only then it is overdue (P5)', () => {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(scheduler, 4)
    scheduler.feed(NOW)
    trace.look()
    scheduler.end(waiting[0] as Task, cancelled)
    expect(trace.look()).toEqual([`abort ${waiting[0]?.id} on 1: CANCELLED`])
    scheduler.done(1, (running[0] as Task).id, ok, 0.01)
    expect(trace.look()).toEqual(['overdue 1'])
    scheduler.done(1, (waiting[0] as Task).id, ok, 0.01)
    expect(trace.settled.get((waiting[0] as Task).id)).toEqual(['CANCELLED'])
  })

  it('is settled once, all of it, when the pool is terminated (P2)', () => {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(scheduler, 6)
    scheduler.feed(NOW)
    scheduler.terminate()
    scheduler.exited(1, died)
    scheduler.exited(2, exited)
    for (const { id } of [...running, ...waiting]) expect(trace.settled.get(id)).toEqual(['POOL_TERMINATED'])
  })
})

describe('a lease that has passed (P8)', () => {
  function lent() {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(scheduler, 4)
    scheduler.feed(NOW)
    trace.look()
    return { scheduler, running: running as [Task, Task], waiting: waiting as [Task, Task, Task, Task] }
  }

  it('is found only when it has passed', () => {
    const { scheduler } = lent()
    expect(scheduler.lends).toBe(true)
    expect(scheduler.late(NOW + BEGIN_BY_MS)).toEqual([])
    expect(scheduler.late(LATE)).toEqual([1, 2])
  })

  it('gives all but the first to a worker that is idle, in order', () => {
    const { scheduler, running, waiting } = lent()
    for (const task of [running[1], waiting[2], waiting[3]]) scheduler.done(2, task.id, ok, 0.01)
    scheduler.reclaim(1, LATE)
    expect(trace.look()).toEqual([`run ${waiting[0].id} on 2`])
    expect(scheduler.feed(LATE)).toBe(true)
    expect(trace.look()).toEqual([`run ${waiting[1].id} on 2 before ${LATE + BEGIN_BY_MS}`])
    expect(scheduler.late(LATE)).toEqual([])
  })

  it('keeps the worker from others until it has returned what was reclaimed', () => {
    const { scheduler, running, waiting } = lent()
    scheduler.reclaim(1, LATE)
    scheduler.done(1, running[0].id, ok, 0.01)
    expect(scheduler.worker(1)?.phase).toBe('busy')
    expect(trace.look()).toEqual([])
    scheduler.returned(1, [waiting[0].id, waiting[1].id])
    expect(trace.look()).toEqual([`run ${waiting[0].id} on 1`])
  })

  it('takes back the first too when the worker says that it has not begun it', () => {
    const { scheduler, running, waiting } = lent()
    scheduler.done(1, running[0].id, ok, 0.01)
    expect(waiting[0].started).toBe(true)
    scheduler.returned(1, [waiting[0].id, waiting[1].id])
    expect(trace.look()).toEqual([`run ${waiting[0].id} on 1`])
    expect([waiting[0].started, scheduler.stats.queued]).toEqual([false, 3])
  })

  it('ignores a done for what has been reclaimed', () => {
    const { scheduler, waiting } = lent()
    scheduler.reclaim(1, LATE)
    scheduler.done(1, waiting[0].id, ok, 0.01)
    expect(trace.settled.has(waiting[0].id)).toBe(false)
  })

  it('drops what was ended meanwhile', () => {
    const { scheduler, waiting } = lent()
    scheduler.end(waiting[0], cancelled)
    scheduler.reclaim(1, LATE)
    expect(scheduler.stats).toMatchObject({ queued: 3, running: 2 })
  })
})
