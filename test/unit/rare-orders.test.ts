import { describe, expect, it } from 'vitest'
import { BEGIN_BY_MS } from '../../pool/scheduler/run-queue.js'
import { Failure } from '../../wire/failure.js'
import { busyWorkers } from '../support/busy-workers.js'
import { cancelled, died, ok, Trace } from '../support/scheduler.js'

/** Orders of events that are rare, and that the scheduler once got wrong. */

const NOW = 1_000
const LATE = NOW + BEGIN_BY_MS + 2

const busy = () => {
  const trace = new Trace()
  return { trace, ...busyWorkers(trace, 0.01) }
}

describe('a scheduler in a rare order of events', () => {
  it('settles late tasks that come back after the pool has failed, when its last worker dies (P2)', () => {
    const { trace, scheduler, running } = busy()
    const prefetched = trace.submit(scheduler)
    scheduler.prefetch(NOW)
    scheduler.close()
    scheduler.exited(2, died)
    for (const worker of [3, 4, 5]) {
      scheduler.initFailed(worker, new Failure('INITIALIZER_FAILED', 'no licence'))
      scheduler.exited(worker, died)
    }
    expect(scheduler.state.kind).toBe('failed')
    scheduler.takeBackLate(1, LATE)
    scheduler.started(1, running[0].id)
    scheduler.exited(1, died)
    expect(trace.look()).toContain('ended')
    expect(trace.settled.get(prefetched.id)).toHaveLength(1)
  })

  it('gives the next task to a worker that has run all its late tasks, in vain (P8)', () => {
    const { trace, scheduler, running } = busy()
    const prefetched = trace.submit(scheduler)
    scheduler.prefetch(NOW)
    const [owner] = scheduler.late(LATE)
    if (owner === undefined) return expect.unreachable()
    scheduler.takeBackLate(owner, LATE)
    const mine = running[owner - 1]
    scheduler.done(owner, mine?.id ?? 0, ok, 1)
    scheduler.done(owner, prefetched.id, ok, 1)
    expect(scheduler.worker(owner)).toMatchObject({ phase: 'busy', runQueue: { size: 1 } })
    expect([...(scheduler.worker(owner)?.runQueue ?? [])]).toEqual([prefetched])
  })

  it('prefetches nothing for a worker whose task was cancelled (P5)', () => {
    const { trace, scheduler, running } = busy()
    scheduler.end(running[0], cancelled)
    trace.submit(scheduler)
    trace.look()
    scheduler.prefetch(NOW)
    expect(trace.look()).not.toEqual([expect.stringContaining(' on 1 before')])
  })

  it('finds a worker overdue when its hand-back brings a cancelled task to the front (P5)', () => {
    const { trace, scheduler, running } = busy()
    const early = trace.submit(scheduler)
    trace.submit(scheduler)
    scheduler.prefetch(NOW)
    scheduler.done(1, running[0].id, ok, 0.01)
    const later = trace.submit(scheduler)
    scheduler.prefetch(NOW + 5)
    scheduler.end(later, cancelled)
    trace.look()
    // The first task was late for the worker, and it has begun the other before it reads of the cancellation.
    scheduler.handedBack(1, [early.id])
    scheduler.started(1, later.id)
    expect(scheduler.worker(1)?.runQueue.first).toBe(later)
    expect(trace.look()).toContain('overdue 1')
  })

  it('learns no run time from a task that was cancelled before it began', () => {
    const { trace, scheduler, running } = busy()
    const prefetched = trace.submit(scheduler)
    scheduler.prefetch(NOW)
    scheduler.end(prefetched, cancelled)
    scheduler.done(1, running[0].id, ok, 0.01)
    // The report about a task that the worker skipped.
    scheduler.done(1, prefetched.id, { ok: false, failure: cancelled }, 0)
    expect(trace.submit(scheduler).expectedMs).toBe(0.01)
  })
})
