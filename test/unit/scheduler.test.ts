import { beforeEach, describe, expect, it } from 'vitest'
import { type Edges, Scheduler, type SchedulerOptions } from '../../server/pool/scheduler.js'
import type { Outcome, TaskSpec } from '../../server/pool/task.js'
import { Failure } from '../../wire/failure.js'

/** What the scheduler asked for, in order, as words. The tests hold the strings: no process, no timer. */
let asked: string[]
let settled: Map<number, string[]>

const edges: Edges = {
  spawn: (worker, delayMs) => asked.push(`spawn ${worker}${delayMs > 0 ? ` after ${delayMs}` : ''}`),
  run: (worker, task) => asked.push(`run ${task.id} on ${worker}`),
  abort: (worker, task, reason) => asked.push(`abort ${task.id} on ${worker}: ${reason.reason}`),
  stop: (worker) => asked.push(`stop ${worker}`),
  kill: (worker) => asked.push(`kill ${worker}`),
  ended: () => asked.push('ended'),
}

const spec = (facts: Partial<TaskSpec> = {}): TaskSpec => ({
  function: 'f',
  args: [],
  kwargs: undefined,
  chunk: undefined,
  spread: false,
  replyKind: 0,
  retries: 0,
  failFast: false,
  ...facts,
})
const ok: Outcome = { ok: true, payload: new Uint8Array([1]), failures: [] }
const died = { pid: 7, exitCode: undefined, signal: 'SIGKILL' }
const exited = { pid: 7, exitCode: 0, signal: undefined }
const cancelled = new Failure('CANCELLED', 'gone')

function start(options: Partial<SchedulerOptions> = {}): Scheduler {
  const scheduler = new Scheduler({ processes: 2, maxTasksPerChild: undefined, ...options }, edges)
  scheduler.start()
  return scheduler
}

function submit(scheduler: Scheduler, facts: Partial<TaskSpec> = {}): number {
  const task: number = scheduler.submit(spec(facts), (outcome) => {
    const word = outcome.ok ? 'ok' : outcome.failure.reason
    settled.set(task, [...(settled.get(task) ?? []), word])
  })
  return task
}

/** What was asked for since the last look. */
const look = () => asked.splice(0)

beforeEach(() => {
  asked = []
  settled = new Map()
})

describe('the scheduler', () => {
  it('starts as many workers as it has processes (P4)', () => {
    start({ processes: 3 })
    expect(look()).toEqual(['spawn 1', 'spawn 2', 'spawn 3'])
  })

  it('gives a worker nothing before it is ready, and one task at a time after (P3)', () => {
    const scheduler = start()
    submit(scheduler)
    submit(scheduler)
    submit(scheduler)
    expect(look()).toEqual(['spawn 1', 'spawn 2'])
    scheduler.ready(1)
    expect(look()).toEqual(['run 1 on 1'])
    scheduler.done(1, 1, ok)
    expect(look()).toEqual(['run 2 on 1'])
    scheduler.ready(2)
    expect(look()).toEqual(['run 3 on 2'])
    expect([...settled]).toEqual([[1, ['ok']]])
  })

  it('gives the next task to the worker that has waited longest', () => {
    const scheduler = start()
    scheduler.ready(2)
    scheduler.ready(1)
    look()
    submit(scheduler)
    scheduler.done(2, 1, ok)
    submit(scheduler)
    expect(look()).toEqual(['run 1 on 2', 'run 2 on 1'])
  })

  it('drops a queued task that is ended from outside; no worker hears of it (P1)', () => {
    const scheduler = start()
    const first = submit(scheduler)
    const second = submit(scheduler)
    scheduler.end(first, cancelled)
    expect(settled.get(first)).toEqual(['CANCELLED'])
    look()
    scheduler.ready(1)
    expect(look()).toEqual([`run ${second} on 1`])
  })

  it('settles a running task at once when it is ended from outside, and aborts it on its worker', () => {
    const scheduler = start()
    scheduler.ready(1)
    const task = submit(scheduler)
    scheduler.started(1, task)
    look()
    scheduler.end(task, cancelled)
    expect(settled.get(task)).toEqual(['CANCELLED'])
    expect(look()).toEqual([`abort ${task} on 1: CANCELLED`])
  })

  it('gives a worker whose task was ended nothing until it has said done (P5)', () => {
    const scheduler = start({ processes: 1 })
    scheduler.ready(1)
    const task = submit(scheduler)
    scheduler.end(task, cancelled)
    const next = submit(scheduler)
    look()
    scheduler.done(1, task, ok)
    expect(look()).toEqual([`run ${next} on 1`])
    expect(settled.get(task)).toEqual(['CANCELLED'])
  })

  it('settles a task once, whatever comes afterwards (P2)', () => {
    const scheduler = start()
    scheduler.ready(1)
    const task = submit(scheduler)
    scheduler.done(1, task, ok)
    scheduler.done(1, task, ok)
    scheduler.end(task, cancelled)
    scheduler.exited(1, died)
    expect(settled.get(task)).toEqual(['ok'])
  })

  it('fails a started task whose worker died, and starts another worker (P4, P6)', () => {
    const scheduler = start()
    scheduler.ready(1)
    const task = submit(scheduler)
    scheduler.started(1, task)
    look()
    scheduler.exited(1, died)
    expect(settled.get(task)).toEqual(['WORKER_CRASHED'])
    expect(look()).toEqual(['spawn 3'])
  })

  it('runs a task that never started elsewhere when its worker dies, in front of all others (P6)', () => {
    const scheduler = start({ processes: 1 })
    scheduler.ready(1)
    const task = submit(scheduler)
    submit(scheduler)
    look()
    scheduler.exited(1, died)
    scheduler.ready(2)
    expect(look()).toEqual(['spawn 2', `run ${task} on 2`])
    expect(settled.size).toBe(0)
  })

  it('runs a started task again as often as its retries allow (P6)', () => {
    const scheduler = start({ processes: 1 })
    scheduler.ready(1)
    const task = submit(scheduler, { retries: 1 })
    scheduler.started(1, task)
    scheduler.exited(1, died)
    expect(settled.size).toBe(0)
    scheduler.ready(2)
    scheduler.started(2, task)
    scheduler.exited(2, died)
    expect(settled.get(task)).toEqual(['WORKER_CRASHED'])
    expect(scheduler.counters).toMatchObject({ submitted: 1, retried: 1, failed: 1, workersStarted: 3 })
  })

  it('replaces a worker after so many tasks', () => {
    const scheduler = start({ processes: 1, maxTasksPerChild: 2 })
    scheduler.ready(1)
    for (let i = 0; i < 3; i++) submit(scheduler)
    scheduler.done(1, 1, ok)
    look()
    scheduler.done(1, 2, ok)
    expect(look()).toEqual(['stop 1', 'spawn 2'])
    scheduler.exited(1, exited)
    scheduler.ready(2)
    expect(look()).toEqual(['run 3 on 2'])
  })

  it('completes what it has accepted when it is closed, then stops its workers, then has ended (P7)', () => {
    const scheduler = start()
    scheduler.ready(1)
    scheduler.ready(2)
    const task = submit(scheduler)
    look()
    scheduler.close()
    expect(() => submit(scheduler)).toThrow('closed')
    expect(look()).toEqual([])
    scheduler.done(1, task, ok)
    expect(look().sort()).toEqual(['stop 1', 'stop 2'])
    scheduler.exited(1, exited)
    scheduler.exited(2, exited)
    expect(look()).toEqual(['ended'])
    expect(scheduler.state.kind).toBe('closed')
  })

  it('takes the tasks of a request that holds it, also after close', () => {
    const scheduler = start({ processes: 1 })
    scheduler.ready(1)
    const release = scheduler.hold()
    scheduler.close()
    expect(scheduler.state.kind).toBe('closing')
    scheduler.submit(spec(), () => {}, true)
    scheduler.done(1, 1, ok)
    expect(look()).toEqual(['spawn 1', 'run 1 on 1'])
    release()
    expect(look()).toEqual(['stop 1'])
  })

  it('fails everything and kills every worker when it is terminated (P7)', () => {
    const scheduler = start()
    scheduler.ready(1)
    const running = submit(scheduler)
    const queued = submit(scheduler)
    scheduler.ready(2)
    const third = submit(scheduler)
    look()
    scheduler.terminate()
    for (const task of [running, queued, third]) expect(settled.get(task)).toEqual(['POOL_TERMINATED'])
    expect(look()).toEqual(['kill 1', 'kill 2'])
    scheduler.exited(1, died)
    scheduler.exited(2, died)
    expect(look()).toEqual(['ended'])
    expect(() => submit(scheduler)).toThrow('terminated')
  })

  it('fails what waits when an initializer fails, completes what runs, and starts no other worker', () => {
    const scheduler = start()
    scheduler.ready(1)
    const running = submit(scheduler)
    const queued = submit(scheduler)
    look()
    scheduler.initFailed(2, new Failure('INITIALIZER_FAILED', 'no'))
    expect(settled.get(queued)).toEqual(['INITIALIZER_FAILED'])
    expect(settled.has(running)).toBe(false)
    scheduler.exited(2, { pid: 8, exitCode: 1, signal: undefined })
    scheduler.done(1, running, ok)
    expect(settled.get(running)).toEqual(['ok'])
    expect(look()).toEqual(['stop 1'])
  })

  it('gives up when worker after worker dies before it is ready', () => {
    const scheduler = start({ processes: 1 })
    const task = submit(scheduler)
    for (const worker of [1, 2, 3]) scheduler.exited(worker, died)
    expect(look()).toEqual(['spawn 1', 'spawn 2 after 100', 'spawn 3 after 400', 'ended'])
    expect(settled.get(task)).toEqual(['NO_WORKERS'])
    expect(scheduler.state.kind).toBe('failed')
  })
})
