import { beforeEach, describe, expect, it } from 'vitest'
import { BEGIN_BY_MS } from '../../pool/scheduler/run-queue.js'
import type { Scheduler, SchedulerOptions } from '../../pool/scheduler/scheduler.js'
import type { Task } from '../../pool/scheduler/task.js'
import { submitMany } from '../support/busy-workers.js'
import { cancelled, died, makeClient, ok, streamOf, type TestClient, Trace } from '../support/scheduler.js'

/** A limit of workers for each identity: invariant P9 of scheduler.ts. */

const NOW = 1_000
const LATE = NOW + BEGIN_BY_MS + 2
const [a, b, c] = [makeClient(), makeClient(), makeClient()]
let trace: Trace

beforeEach(() => {
  trace = new Trace()
})

const submit = (scheduler: Scheduler, client: TestClient, count = 1, retries = 0) =>
  submitMany(trace, scheduler, count, { client, retries })
const one = (scheduler: Scheduler, client: TestClient, retries = 0) => submit(scheduler, client, 1, retries)[0] as Task
const ids = (tasks: readonly Task[]) => tasks.map(({ id }) => id).join(' ')

/** Idle workers, and a function whose tasks are known to take 0.01 ms, so that they may be prefetched. */
function begin(options: Partial<SchedulerOptions> = {}): Scheduler {
  const { processes = 2 } = options
  const scheduler = trace.start({ processes, maxRunningPerClient: 1, ...options })
  for (let worker = 1; worker <= processes; worker++) scheduler.ready(worker)
  // One after the other: then worker 1 is the longest idle again.
  for (let worker = 1; worker <= processes; worker++) {
    const task = one(scheduler, makeClient())
    scheduler.done(worker, task.id, ok, 0.01)
  }
  trace.look()
  return scheduler
}

describe('a client that has all the workers that it may have (P9)', () => {
  it('waits, while another client gets the idle worker', () => {
    const scheduler = begin()
    const [first, second] = submit(scheduler, a, 3) as [Task, Task]
    expect(trace.look()).toEqual([`run ${first.id} on 1`])
    const other = one(scheduler, b)
    expect(trace.look()).toEqual([`run ${other.id} on 2`])
    scheduler.done(1, first.id, ok, 100)
    expect(trace.look()).toEqual([`run ${second.id} on 1`])
    scheduler.done(2, other.id, ok, 1)
    expect(trace.look()).toEqual([])
  })

  it('waits, and so do all its streams', () => {
    const scheduler = begin()
    const [first] = submit(scheduler, streamOf(a), 2) as [Task]
    submit(scheduler, streamOf(a), 2)
    submit(scheduler, a, 2)
    expect(trace.look()).toEqual([`run ${first.id} on 1`])
  })

  it('waits for its worker until that has reported the end of a cancelled task', () => {
    const scheduler = begin()
    const [first, second] = submit(scheduler, a, 2) as [Task, Task]
    scheduler.end(first, cancelled)
    expect(trace.look()).not.toContain(`run ${second.id} on 2`)
    scheduler.done(1, first.id, ok, 1)
    expect(trace.look()).toEqual([`run ${second.id} on 2`])
  })

  it('gets another worker when its own has died or is replaced', () => {
    const scheduler = begin({ maxTasksPerChild: 2 })
    const [first, second, third] = submit(scheduler, a, 3) as [Task, Task, Task]
    trace.look()
    scheduler.done(1, first.id, ok, 1)
    expect(trace.look()).toEqual(['stop 1', 'spawn 3', `run ${second.id} on 2`])
    scheduler.ready(3)
    scheduler.exited(2, died)
    // It had not begun.
    expect(trace.look()).toEqual(['spawn 4', `run ${second.id} on 3`])
    scheduler.ready(4)
    scheduler.started(3, second.id)
    scheduler.exited(3, died)
    expect(trace.look()).toEqual(['spawn 5', `run ${third.id} on 4`])
  })

  it('runs tasks that come back before its other tasks, and they delay no other client', () => {
    const scheduler = begin()
    const again = one(scheduler, a, 1)
    submit(scheduler, a, 2)
    scheduler.started(1, again.id)
    scheduler.exited(1, died)
    trace.look()
    expect([again.attempt, [...(scheduler.worker(2)?.runQueue ?? [])]]).toEqual([2, [again]])
    scheduler.exited(2, died)
    const other = one(scheduler, b)
    scheduler.ready(3)
    scheduler.ready(4)
    expect(trace.look().filter((word) => word.startsWith('run'))).toEqual([
      `run ${again.id} on 3`,
      `run ${other.id} on 4`,
    ])
  })

  it('does not exist if the limit is not below the number of workers', () => {
    const scheduler = begin({ maxRunningPerClient: 2 })
    submit(scheduler, a, 2)
    const [first] = submit(scheduler, a, 2) as [Task]
    const other = one(scheduler, b)
    trace.look()
    scheduler.prefetch(NOW)
    expect(trace.look()[0]).toBe(`run ${first.id} ${other.id} on 1 before ${NOW + BEGIN_BY_MS}`)
  })
})

describe('prefetching with a limit (P3, P9)', () => {
  it('fills the worker of a client, though other workers are idle', () => {
    const scheduler = begin()
    const [, ...waiting] = submit(scheduler, a, 4)
    trace.look()
    expect(scheduler.prefetch(NOW)).toBe(true)
    expect(trace.look()).toEqual([`run ${ids(waiting)} on 1 before ${NOW + BEGIN_BY_MS}`])
  })

  it('waits while a worker is idle that the client may have, also if the client stopped being full unnoticed', () => {
    const scheduler = begin({ processes: 3, maxRunningPerClient: 2 })
    const client = makeClient()
    one(scheduler, client)
    client.isFull = true
    const next = one(scheduler, client)
    client.isFull = false
    trace.look()
    scheduler.prefetch(NOW)
    expect(trace.look()).toEqual([`run ${next.id} on 2`])
  })

  it('fills all workers of a client evenly, and only with its own tasks', () => {
    const scheduler = begin({ processes: 4, maxRunningPerClient: 2 })
    const mine = submit(scheduler, a, 6)
    const others = submit(scheduler, b, 6)
    trace.look()
    scheduler.prefetch(NOW)
    const before = `before ${NOW + BEGIN_BY_MS}`
    expect(trace.look()).toEqual([
      `run ${ids(mine.slice(2, 4))} on 1 ${before}`,
      `run ${ids(mine.slice(4))} on 2 ${before}`,
      `run ${ids(others.slice(2, 4))} on 3 ${before}`,
      `run ${ids(others.slice(4))} on 4 ${before}`,
    ])
  })

  it('does not let a client keep its worker while another waits for one', () => {
    const scheduler = begin()
    const many = 2_000
    for (const client of [a, b]) submit(scheduler, client, many)
    scheduler.prefetch(NOW)
    const waits = one(scheduler, c)
    let others = 0
    // Workers that are never slow: the first task of each run queue ends, and tasks are prefetched.
    for (; !waits.started && scheduler.stats.queued > 0 && others < many; others++) {
      const worker = 1 + (others % 2)
      const { first } = scheduler.worker(worker)?.runQueue ?? {}
      if (first === waits) break
      if (first) scheduler.done(worker, first.id, ok, 0.01)
      scheduler.prefetch(NOW)
    }
    // One run queue holds a hundred of them.
    expect(others).toBeLessThan(500)
    expect([1, 2].map((worker) => scheduler.worker(worker)?.runQueue.first)).toContain(waits)
    // The late client has the worker for itself, and no task before it is lost.
    for (let left = 2 * many; left > 0; left--) {
      for (const worker of [1, 2]) {
        const { first } = scheduler.worker(worker)?.runQueue ?? {}
        if (first) scheduler.done(worker, first.id, ok, 0.01)
      }
      scheduler.prefetch(NOW)
    }
    expect(trace.settled.size).toBe(2 * many + 3)
  })

  it('puts late tasks back behind the limit of their own client, so that no other client waits for them', () => {
    const scheduler = begin()
    const [long, ...waiting] = submit(scheduler, a, 4) as [Task, Task, Task, Task]
    scheduler.prefetch(NOW)
    scheduler.takeBackLate(1, LATE)
    trace.look()
    const other = one(scheduler, b)
    expect(trace.look()).toEqual([`run ${other.id} on 2`])
    scheduler.handedBack(
      1,
      waiting.map(({ id }) => id),
    )
    scheduler.done(1, long.id, ok, 100)
    expect(trace.look()).toEqual([`run ${waiting[0]?.id} on 1`])
  })

  it('keeps a worker for its client until late tasks are handed back, or done too late', () => {
    for (const end of [
      (scheduler: Scheduler, task: Task) => scheduler.handedBack(1, [task.id]),
      (scheduler: Scheduler, task: Task) => scheduler.done(1, task.id, ok, 1),
    ]) {
      trace = new Trace()
      const scheduler = begin()
      const [long, prefetched] = submit(scheduler, a, 2) as [Task, Task]
      scheduler.prefetch(NOW)
      scheduler.takeBackLate(1, LATE)
      scheduler.done(1, long.id, ok, 1)
      trace.look()
      end(scheduler, prefetched)
      expect(trace.look()).toEqual([`run ${prefetched.id} on 2`])
    }
  })
})
