import { beforeEach, describe, expect, it } from 'vitest'
import { BEGIN_BY_MS } from '../../pool/scheduler/run-queue.js'
import type { Task } from '../../pool/scheduler/task.js'
import { busyWorkers, submitMany as submit } from '../support/hands.js'
import { cancelled, died, type Facts, ok, Trace } from '../support/scheduler.js'

/** How hands end: with their worker, with their pool, with their lease; and who gets one at all. */

const NOW = 1_000
const LATE = NOW + BEGIN_BY_MS + 2
let trace: Trace

beforeEach(() => {
  trace = new Trace()
})

const busy = (ranMs: number, facts: Facts = {}) => busyWorkers(trace, ranMs, facts)

describe('tasks are given ahead (P3)', () => {
  it('not before workers are ready, and not where nothing waits', () => {
    const scheduler = trace.start()
    submit(trace, scheduler, 3)
    expect([scheduler.feed(NOW), scheduler.lends]).toEqual([false, false])
    const { scheduler: other } = busy(0.01)
    expect([other.feed(NOW), other.lends]).toEqual([false, false])
  })

  it('clients in turns', () => {
    const { scheduler } = busy(0.01)
    const many = submit(trace, scheduler, 5, { client: 'many' })
    const [one] = submit(trace, scheduler, 1, { client: 'one' }) as [Task]
    scheduler.feed(NOW)
    expect(trace.look()[0]).toBe(`run ${many[0]?.id} ${one.id} ${many[1]?.id} on 1 before ${NOW + BEGIN_BY_MS}`)
  })
})

describe('a task that was given up while it ran', () => {
  it('is paid for by its client, which lets others go first', () => {
    const { scheduler, running } = busy(20)
    const [first] = submit(trace, scheduler, 2, { client: 'quitter' }) as [Task]
    const ones = submit(trace, scheduler, 2, { client: 'one' }) as [Task, Task]
    scheduler.done(1, running[0].id, ok, 20)
    scheduler.done(2, running[1].id, ok, 20)
    scheduler.end(first, cancelled)
    trace.look()
    scheduler.done(1, first.id, ok, 20)
    expect(trace.look()).toEqual([`run ${ones[1].id} on 1`])
  })
})

describe('a hand', () => {
  it('of a worker that dies is tried again as often as the retries of the first allow (P6)', () => {
    const { scheduler, running } = busy(0.01, { retries: 1 })
    const waiting = submit(trace, scheduler, 2)
    scheduler.feed(NOW)
    scheduler.started(1, running[0].id)
    scheduler.exited(1, died)
    expect([running[0]?.attempt, waiting[0]?.attempt]).toEqual([2, 1])
    trace.look()
    scheduler.ready(3)
    expect(trace.look()).toEqual([`run ${running[0]?.id} on 3`])
    expect(trace.settled.size).toBe(1)
  })

  it('of a worker that dies while what it was given was ended: nobody is told twice, nobody runs it (P2)', () => {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(trace, scheduler, 4)
    scheduler.feed(NOW)
    scheduler.end(waiting[0] as Task, cancelled)
    scheduler.exited(1, died)
    expect(trace.settled.get(waiting[0]?.id ?? 0)).toEqual(['CANCELLED'])
    trace.look()
    scheduler.ready(3)
    // It had not said that the first had begun.
    expect(trace.look()).toEqual([`run ${running[0]?.id} on 3`])
    expect(scheduler.stats).toMatchObject({ queued: 3, running: 2 })
  })

  it('is done to its end when the pool is closed (P7)', () => {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(trace, scheduler, 2)
    scheduler.feed(NOW)
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

describe('a lease that has passed (P8)', () => {
  function lent() {
    const { scheduler, running } = busy(0.01)
    const waiting = submit(trace, scheduler, 4)
    scheduler.feed(NOW)
    trace.look()
    return { scheduler, running: running as [Task, Task], waiting: waiting as [Task, Task, Task, Task] }
  }

  it('lends a worker nothing until it has returned what was reclaimed', () => {
    const { scheduler, waiting } = lent()
    scheduler.reclaim(1, LATE)
    scheduler.feed(LATE)
    // The other worker, whose lease has passed too, has not been asked for its own.
    const words = trace.look()
    expect(words.some((word) => word.includes(' on 1 '))).toBe(false)
    scheduler.returned(1, [waiting[0].id, waiting[1].id])
    submit(trace, scheduler, 4)
    expect(scheduler.feed(LATE)).toBe(true)
    expect(trace.look().some((word) => word.includes(' on 1 before'))).toBe(true)
  })

  it('that has not passed is not ended by a reclaim', () => {
    const { scheduler } = lent()
    scheduler.reclaim(1, NOW + BEGIN_BY_MS)
    expect(scheduler.stats).toMatchObject({ queued: 4, running: 2 })
    expect(scheduler.worker(1)?.hand.size).toBe(3)
  })
})
