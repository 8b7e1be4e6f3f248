import { EventEmitter, once } from 'node:events'
import { stat } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { type Duplex, PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, describe, expect, it } from 'vitest'
import type { WorkerProcess } from '../../pool/process/launcher.js'
import { WorkerHandle } from '../../pool/process/worker-handle.js'
import { BEGIN_BY_MS } from '../../pool/scheduler/run-queue.js'
import { Failure } from '../../wire/failure.js'
import { type FromWorkerFrame, writeFromWorker } from '../../wire/framing/frames.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'
import { type Reports, TaskRunner } from '../../worker/task-runner.js'
import { busyWorkers } from '../support/hands.js'
import { cancelled, died, ok, Trace } from '../support/scheduler.js'
import { temporaryFolder, until } from '../support/server.js'

/** Orders of events that are rare, and were wrong once. */

const NOW = 1_000
const LATE = NOW + BEGIN_BY_MS + 2

const busy = () => {
  const trace = new Trace()
  return { trace, ...busyWorkers(trace, 0.01) }
}

describe('a scheduler', () => {
  it('that has failed settles what was reclaimed when the last worker dies (P2)', () => {
    const { trace, scheduler, running } = busy()
    const lent = trace.submit(scheduler)
    scheduler.feed(NOW)
    scheduler.close()
    scheduler.exited(2, died)
    for (const worker of [3, 4, 5]) {
      scheduler.initFailed(worker, new Failure('INITIALIZER_FAILED', 'no licence'))
      scheduler.exited(worker, died)
    }
    expect(scheduler.state.kind).toBe('failed')
    scheduler.reclaim(1, LATE)
    scheduler.started(1, running[0].id)
    scheduler.exited(1, died)
    expect(trace.look()).toContain('ended')
    expect(trace.settled.get(lent.id)).toHaveLength(1)
  })

  it('gives the next task to a worker that has done, too late, all that was reclaimed (P8)', () => {
    const { trace, scheduler, running } = busy()
    const lent = trace.submit(scheduler)
    scheduler.feed(NOW)
    const [owner] = scheduler.late(LATE)
    if (owner === undefined) return expect.unreachable()
    scheduler.reclaim(owner, LATE)
    const mine = running[owner - 1]
    scheduler.done(owner, mine?.id ?? 0, ok, 1)
    scheduler.done(owner, lent.id, ok, 1)
    expect(scheduler.worker(owner)).toMatchObject({ phase: 'busy', hand: { size: 1 } })
    expect([...(scheduler.worker(owner)?.hand ?? [])]).toEqual([lent])
  })

  it('lends nothing to a worker whose task was ended (P5)', () => {
    const { trace, scheduler, running } = busy()
    scheduler.end(running[0], cancelled)
    trace.submit(scheduler)
    trace.look()
    scheduler.feed(NOW)
    expect(trace.look()).not.toEqual([expect.stringContaining(' on 1 before')])
  })

  it('calls a worker overdue when what it returns brings an ended task to the front (P5)', () => {
    const { trace, scheduler, running } = busy()
    const early = trace.submit(scheduler)
    trace.submit(scheduler)
    scheduler.feed(NOW)
    scheduler.done(1, running[0].id, ok, 0.01)
    const later = trace.submit(scheduler)
    scheduler.feed(NOW + 5)
    scheduler.end(later, cancelled)
    trace.look()
    // The worker found the lease of the first over; it has begun the other when it hears of the abort.
    scheduler.returned(1, [early.id])
    scheduler.started(1, later.id)
    expect(scheduler.worker(1)?.hand.first).toBe(later)
    expect(trace.look()).toContain('overdue 1')
  })

  it('does not learn from a task that was given up before it began', () => {
    const { trace, scheduler, running } = busy()
    const lent = trace.submit(scheduler)
    scheduler.feed(NOW)
    scheduler.end(lent, cancelled)
    scheduler.done(1, running[0].id, ok, 0.01)
    // What the worker says of a task that it was told to give up in time.
    scheduler.done(1, lent.id, { ok: false, failure: cancelled }, 0)
    expect(trace.submit(scheduler).expectedMs).toBe(0.01)
  })
})

/** A worker of which nothing is real but what it says; it is never killed, since it seems to have exited. */
function fake(graceMs: number, frames: Duplex) {
  const heard: string[] = []
  const child = Object.assign(new EventEmitter(), { pid: 2 ** 30 })
  Object.defineProperty(child, 'exitCode', { get: () => heard.push('killed') })
  const stdio = { stdout: new PassThrough(), stderr: new PassThrough(), oom: () => undefined }
  let hold: Promise<void> | undefined
  const handle = new WorkerHandle(
    { child, frames, orders: frames, ...stdio } as unknown as WorkerProcess,
    { modules: [], initializer: '', initargs: [], stacks: false, maxRssBytes: 0, maxResultBytes: 0 },
    { graceMs, startTimeoutMs: 0 },
    {
      ready: () => {},
      initFailed: () => {},
      started: () => {},
      done: (task) => heard.push(`done ${task}`),
      progressed: () => {},
      retire: () => {},
      returned: (tasks) => heard.push(`returned ${tasks}`),
      printed: () => hold,
      exited: () => {},
    },
  )
  return { handle, heard, hold: (until: Promise<void> | undefined) => (hold = until) }
}

const frame = (kind: FromWorkerFrame): Buffer => {
  const writer = new ProtoWriter()
  writeFromWorker(writer, kind)
  return writer.take()
}

const done = (task: number): FromWorkerFrame => ({
  $case: 'done',
  value: { task, payload: new Uint8Array([1]), failures: [], status: undefined, runMs: 1 },
})

describe("the server's end of a worker", () => {
  const folder = temporaryFolder()
  const listener = createServer()
  afterAll(() => {
    listener.close()
    folder.remove()
  })

  /** Both ends of a socket: what is written to one is read from the other only when the event loop comes by. */
  async function socket(): Promise<{ server: Socket; worker: Socket }> {
    if (!listener.listening) listener.listen(folder.path('socket'))
    const accepted = once(listener, 'connection')
    const worker = connect(folder.path('socket'))
    const [server] = (await accepted) as [Socket]
    return { server, worker }
  }

  it('forgets that a task was overdue when the worker has returned it', async () => {
    const { server, worker } = await socket()
    const GRACE_MS = 300
    const { handle, heard } = fake(GRACE_MS, server)
    handle.overdue()
    worker.write(frame({ $case: 'returned', value: { tasks: [1] } }))
    await until(() => heard.length > 0, 'it has heard that')
    // Nothing else becomes of it when the time is over that an overdue task has.
    await sleep(2 * GRACE_MS)
    worker.destroy()
    expect(heard).toEqual(['returned 1'])
  })

  it('has read what came while the log was full before it says that it has (P8)', async () => {
    const { server, worker } = await socket()
    const { handle, heard, hold } = fake(1_000, server)
    let resume: () => void = () => {}
    hold(new Promise((resolve) => (resume = resolve)))
    const print = (text: string) => worker.write(frame({ $case: 'log', value: { task: 0, stream: 1, text } }))
    print('x\n')
    await sleep(10)
    // More than Node reads ahead, but not at once, and the last word behind it.
    for (let i = 0; i < 4; i++) {
      print('y'.repeat(30_000))
      await sleep(10)
    }
    worker.write(frame(done(1)))
    await until(() => worker.writableLength === 0, 'it has left the worker')
    // And nobody has read it.
    expect(heard).toEqual([])
    handle.afterReading(() => heard.push('all'))
    const busy = performance.eventLoopUtilization()
    await sleep(100)
    // It waits, and does not look again and again.
    expect(performance.eventLoopUtilization(busy).utilization).toBeLessThan(0.5)
    // As a log that writes to a file: it has room when a write has ended.
    stat('.', () => {
      hold(undefined)
      resume()
    })
    await until(() => heard.length === 2, 'it has been heard to the end')
    worker.destroy()
    expect(heard).toEqual(['done 1', 'all'])
  })
})

describe("the worker's end", () => {
  it('says that a task begins which came after the done of the one before (P6)', async () => {
    const said: string[] = []
    const run = (task: number) => ({
      function: 'f',
      args: [],
      kwargs: undefined,
      spread: false,
      replyKind: 0,
      failFast: false,
      beginBy: 0,
      tasks: [{ task, attempt: 1, args: [], chunk: undefined }],
    })
    const reports: Reports = {
      pending: undefined,
      send: ({ $case, value }) => {
        said.push(`${$case} ${(value as { task: number }).task}`)
        // The server answers the first done with the next task, which is read before the worker has looked up.
        if (said.length === 2) setImmediate(() => runner.add(run(2)))
      },
    }
    const call = () => {
      for (const end = performance.now() + 3; performance.now() < end; );
      return 1
    }
    const functions = new Map([
      ['f', { call, module: 'm.js', options: { retries: 0, runTimeoutMs: 0, neverKilled: false } }],
    ])
    const init = { modules: [], initializer: '', initargs: [], stacks: false, maxRssBytes: 0, maxResultBytes: 0 }
    const runner = new TaskRunner(functions, init, reports)
    runner.add(run(1))
    await until(() => said.length >= 4, 'both are done')
    await runner.idle()
    expect(said).toEqual(['started 1', 'done 1', 'started 2', 'done 2'])
  })
})
