import { beforeEach, describe, expect, it } from 'vitest'
import { BEGIN_BY_MS } from '../../pool/scheduler/run-queue.js'
import type { Scheduler, SchedulerOptions } from '../../pool/scheduler/scheduler.js'
import type { Task } from '../../pool/scheduler/task.js'
import { submitMany } from '../support/hands.js'
import { cancelled, died, ok, Trace } from '../support/scheduler.js'

/** How many workers a connection may have at once: invariant P9 of scheduler.ts. */

const NOW = 1_000
const LATE = NOW + BEGIN_BY_MS + 2
const [a, b, c] = ['a', 'b', 'c'].map(() => ({ isFull: false, isHeldBack: false })) as [object, object, object]
let trace: Trace

beforeEach(() => {
  trace = new Trace()
})

type Client = Task['job']['client']
const submit = (scheduler: Scheduler, client: object, count = 1, retries = 0) =>
  submitMany(trace, scheduler, count, { client: client as Client, retries })
const one = (scheduler: Scheduler, client: object, retries = 0) => submit(scheduler, client, 1, retries)[0] as Task
const ids = (tasks: readonly Task[]) => tasks.map(({ id }) => id).join(' ')

/** Workers that are idle, and tasks of 0.01 ms that may be given ahead. */
function begin(options: Partial<SchedulerOptions> = {}): Scheduler {
  const { processes = 2 } = options
  const scheduler = trace.start({ processes, maxRunningPerClient: 1, ...options })
  for (let worker = 1; worker <= processes; worker++) scheduler.ready(worker)
  // One after the other: the next is the first again.
  for (let worker = 1; worker <= processes; worker++) {
    const task = one(scheduler, {})
    scheduler.done(worker, task.id, ok, 0.01)
  }
  trace.look()
  return scheduler
}

describe('a client with as many workers as it may have (P9)', () => {
  it('waits, while another has the one that is idle', () => {
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

  it('waits with all its streams', () => {
    const scheduler = begin()
    const [first] = submit(scheduler, { isFull: false, isHeldBack: true, connection: a }, 2) as [Task]
    submit(scheduler, { isFull: false, isHeldBack: true, connection: a }, 2)
    submit(scheduler, a, 2)
    expect(trace.look()).toEqual([`run ${first.id} on 1`])
  })

  it('waits for a task that was ended from outside until its worker has said done', () => {
    const scheduler = begin()
    const [first, second] = submit(scheduler, a, 2) as [Task, Task]
    scheduler.end(first, cancelled)
    expect(trace.look()).not.toContain(`run ${second.id} on 2`)
    scheduler.done(1, first.id, ok, 1)
    expect(trace.look()).toEqual([`run ${second.id} on 2`])
  })

  it('has another when its own has died, or is replaced', () => {
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

  it('has tasks that come back before its own others, and these keep nobody else waiting', () => {
    const scheduler = begin()
    const again = one(scheduler, a, 1)
    submit(scheduler, a, 2)
    scheduler.started(1, again.id)
    scheduler.exited(1, died)
    trace.look()
    expect([again.attempt, [...(scheduler.worker(2)?.hand ?? [])]]).toEqual([2, [again]])
    scheduler.exited(2, died)
    const other = one(scheduler, b)
    scheduler.ready(3)
    scheduler.ready(4)
    expect(trace.look().filter((word) => word.startsWith('run'))).toEqual([
      `run ${again.id} on 3`,
      `run ${other.id} on 4`,
    ])
  })

  it('is of no account where there are no more workers than that', () => {
    const scheduler = begin({ maxRunningPerClient: 2 })
    submit(scheduler, a, 2)
    const [first] = submit(scheduler, a, 2) as [Task]
    const other = one(scheduler, b)
    trace.look()
    scheduler.feed(NOW)
    expect(trace.look()[0]).toBe(`run ${first.id} ${other.id} on 1 before ${NOW + BEGIN_BY_MS}`)
  })
})

describe('tasks are given ahead, where there is a limit (P3, P9)', () => {
  it('to the worker that their client has, though others are idle', () => {
    const scheduler = begin()
    const [, ...waiting] = submit(scheduler, a, 4)
    trace.look()
    expect(scheduler.feed(NOW)).toBe(true)
    expect(trace.look()).toEqual([`run ${ids(waiting)} on 1 before ${NOW + BEGIN_BY_MS}`])
  })

  it('not while one is idle that their client may have, though nobody said that it is no longer full', () => {
    const scheduler = begin({ processes: 3, maxRunningPerClient: 2 })
    const client = { isFull: false, isHeldBack: true }
    one(scheduler, client)
    client.isFull = true
    const next = one(scheduler, client)
    client.isFull = false
    trace.look()
    scheduler.feed(NOW)
    expect(trace.look()).toEqual([`run ${next.id} on 2`])
  })

  it('evenly to those that it has, each its own', () => {
    const scheduler = begin({ processes: 4, maxRunningPerClient: 2 })
    const mine = submit(scheduler, a, 6)
    const others = submit(scheduler, b, 6)
    trace.look()
    scheduler.feed(NOW)
    const before = `before ${NOW + BEGIN_BY_MS}`
    expect(trace.look()).toEqual([
      `run ${ids(mine.slice(2, 4))} on 1 ${before}`,
      `run ${ids(mine.slice(4))} on 2 ${before}`,
      `run ${ids(others.slice(2, 4))} on 3 ${before}`,
      `run ${ids(others.slice(4))} on 4 ${before}`,
    ])
  })

  it('but do not keep a worker for whoever has it, while somebody waits for one', () => {
    const scheduler = begin()
    const many = 2_000
    for (const client of [a, b]) submit(scheduler, client, many)
    scheduler.feed(NOW)
    const waits = one(scheduler, c)
    let others = 0
    // As workers do it that are never slow: the first of each hand ends, and what there is to be given is given.
    for (; !waits.started && scheduler.stats.queued > 0 && others < many; others++) {
      const worker = 1 + (others % 2)
      const { first } = scheduler.worker(worker)?.hand ?? {}
      if (first === waits) break
      if (first) scheduler.done(worker, first.id, ok, 0.01)
      scheduler.feed(NOW)
    }
    // A hand is worth a hundred of them.
    expect(others).toBeLessThan(500)
    expect([1, 2].map((worker) => scheduler.worker(worker)?.hand.first)).toContain(waits)
    // It has the worker for itself, and those before it are not lost.
    for (let left = 2 * many; left > 0; left--) {
      for (const worker of [1, 2]) {
        const { first } = scheduler.worker(worker)?.hand ?? {}
        if (first) scheduler.done(worker, first.id, ok, 0.01)
      }
      scheduler.feed(NOW)
    }
    expect(trace.settled.size).toBe(2 * many + 3)
  })

  it('and wait for a worker of their client, where they were not begun in time: others do not wait for them', () => {
    const scheduler = begin()
    const [long, ...waiting] = submit(scheduler, a, 4) as [Task, Task, Task, Task]
    scheduler.feed(NOW)
    scheduler.reclaim(1, LATE)
    trace.look()
    const other = one(scheduler, b)
    expect(trace.look()).toEqual([`run ${other.id} on 2`])
    scheduler.returned(
      1,
      waiting.map(({ id }) => id),
    )
    scheduler.done(1, long.id, ok, 100)
    expect(trace.look()).toEqual([`run ${waiting[0]?.id} on 1`])
  })

  it('and have their worker until what was reclaimed is returned, or done too late', () => {
    for (const end of [
      (scheduler: Scheduler, task: Task) => scheduler.returned(1, [task.id]),
      (scheduler: Scheduler, task: Task) => scheduler.done(1, task.id, ok, 1),
    ]) {
      trace = new Trace()
      const scheduler = begin()
      const [long, lent] = submit(scheduler, a, 2) as [Task, Task]
      scheduler.feed(NOW)
      scheduler.reclaim(1, LATE)
      scheduler.done(1, long.id, ok, 1)
      trace.look()
      end(scheduler, lent)
      expect(trace.look()).toEqual([`run ${lent.id} on 2`])
    }
  })
})
