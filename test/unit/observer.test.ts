import { beforeEach, describe, expect, it } from 'vitest'
import { observeAll, type TaskEvent } from '../../pool/scheduler/effects.js'
import { BEGIN_BY_MS } from '../../pool/scheduler/run-queue.js'
import { cancelled, died, ok, Trace } from '../support/scheduler.js'

/** What an observer of a pool sees. */

const NOW = 1_000
let trace: Trace
let seen: string[]

const observe = (event: TaskEvent) => {
  const where = 'worker' in event ? ` on ${event.worker}` : ''
  const how =
    event.kind === 'settled' ? ` as ${event.as}` : event.kind === 'assigned' && event.prefetched ? ' ahead' : ''
  seen.push(`${event.task.id} ${event.kind}${how}${where}`)
}

beforeEach(() => {
  trace = new Trace()
  seen = []
})

describe('the observer of tasks', () => {
  it('sees each step of a task that succeeds', () => {
    const scheduler = trace.start({ processes: 1 }, observe)
    const task = trace.submit(scheduler)
    scheduler.ready(1)
    scheduler.started(1, task.id)
    scheduler.done(1, task.id, ok, 5)
    expect(seen).toEqual(['1 submitted', '1 assigned on 1', '1 started on 1', '1 settled as succeeded'])
  })

  it('sees a task that is cancelled in the queue, and one that is cancelled while it runs', () => {
    const scheduler = trace.start({ processes: 1 }, observe)
    scheduler.ready(1)
    const [running, queued] = [trace.submit(scheduler), trace.submit(scheduler)]
    seen = []
    scheduler.end(queued, cancelled)
    scheduler.end(running, cancelled)
    scheduler.done(1, running.id, ok, 5)
    expect(seen).toEqual(['2 settled as cancelled', '1 settled as cancelled'])
  })

  it('sees a retry, and the failure of the last attempt', () => {
    const scheduler = trace.start({ processes: 1 }, observe)
    scheduler.ready(1)
    const task = trace.submit(scheduler, { retries: 1 })
    seen = []
    for (const worker of [1, 2]) {
      scheduler.ready(worker)
      scheduler.started(worker, task.id)
      scheduler.exited(worker, died)
    }
    expect(seen).toEqual([
      '1 started on 1',
      '1 retried on 1',
      '1 assigned on 2',
      '1 started on 2',
      '1 settled as failed',
    ])
  })

  it('sees prefetched tasks, and those that are taken back or handed back', () => {
    const scheduler = trace.start({ processes: 1 }, observe)
    scheduler.ready(1)
    scheduler.done(1, trace.submit(scheduler).id, ok, 0.01)
    const [running, late, handedBack] = [1, 2, 3].map(() => trace.submit(scheduler))
    if (!running || !late || !handedBack) return expect.unreachable()
    seen = []
    scheduler.prefetch(NOW)
    expect(seen).toEqual([`${late.id} assigned ahead on 1`, `${handedBack.id} assigned ahead on 1`])
    seen = []
    scheduler.handedBack(1, [handedBack.id])
    scheduler.takeBackLate(1, NOW + BEGIN_BY_MS + 2)
    expect(seen).toEqual([`${handedBack.id} handed-back on 1`, `${late.id} handed-back on 1`])
  })

  it('sees a task whose worker died before it began', () => {
    const scheduler = trace.start({ processes: 1 }, observe)
    scheduler.ready(1)
    trace.submit(scheduler)
    seen = []
    scheduler.exited(1, died)
    scheduler.ready(2)
    expect(seen).toEqual(['1 handed-back on 1', '1 assigned on 2'])
  })

  it('sees every task settled once, after its owner has the outcome', () => {
    const scheduler = trace.start({ processes: 1 }, (event) => {
      if (event.kind === 'settled') seen.push(`${event.task.id} ${trace.settled.get(event.task.id)}`)
    })
    scheduler.ready(1)
    for (let at = 0; at < 3; at++) trace.submit(scheduler)
    scheduler.terminate()
    expect(seen.sort()).toEqual(['1 POOL_TERMINATED', '2 POOL_TERMINATED', '3 POOL_TERMINATED'])
  })
})

describe('several observers', () => {
  it('each see the events that they have a method for', () => {
    const both = observeAll([
      { worker: ({ kind }) => seen.push(`a ${kind}`) },
      { worker: ({ kind }) => seen.push(`b ${kind}`), state: ({ kind }) => seen.push(`b ${kind}`) },
    ])
    both.worker?.({ kind: 'ready', worker: 1, pid: 7 })
    both.state?.({ kind: 'closing' })
    expect(seen).toEqual(['a ready', 'b ready', 'b closing'])
  })

  it('cost nothing for events that none of them wants', () => {
    expect(Object.keys(observeAll([{ worker: () => {} }, {}]))).toEqual(['worker'])
    expect(observeAll([])).toEqual({})
  })
})
