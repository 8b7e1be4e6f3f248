import { once } from 'node:events'
import { stat } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, describe, expect, it } from 'vitest'
import type { ProcessExit, WorkerProcess } from '../../pool/process/launcher.js'
import { WorkerHandle } from '../../pool/process/worker-handle.js'
import type { WorkerExit } from '../../pool/scheduler/pool-state.js'
import {
  decodeToWorker,
  FrameReader,
  type FromWorkerFrame,
  type ToWorkerFrame,
  writeFromWorker,
} from '../../wire/framing/frames.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'
import { temporaryFolder, until } from '../support/server.js'

/** The parent's side of a worker, driven through the WorkerProcess seam without any process. */

const INIT = { modules: ['/m.js'], initializer: '', initargs: [], stacks: false, maxRssBytes: 0, maxResultBytes: 0 }

interface Times {
  graceMs?: number
  startTimeoutMs?: number
}

/** A handle over a scripted process. `seen` are its events, as words; a test plays the worker. */
function handleOver(output: PassThrough | Socket, { graceMs = 1_000, startTimeoutMs = 0 }: Times = {}) {
  const seen: string[] = []
  const commands: ToWorkerFrame[] = []
  const input = new PassThrough()
  const reader = new FrameReader((frame) => {
    const command = decodeToWorker(frame)
    if (command) commands.push(command)
  })
  input.on('data', (bytes: Buffer) => reader.push(bytes))
  let exit: (how: ProcessExit) => void = () => {}
  const process: WorkerProcess = {
    pid: 4711,
    input,
    output,
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    sharedFile: undefined,
    release: () => {},
    exited: new Promise((resolve) => {
      exit = resolve
    }),
    kill: () => seen.push('killed'),
    lowerPriority: () => {},
  }
  let full: Promise<void> | undefined
  const exited: WorkerExit[] = []
  const handle = new WorkerHandle(
    process,
    INIT,
    { graceMs, startTimeoutMs },
    {
      ready: (functions, runtime) => seen.push(`ready ${functions.map(({ name }) => name)} ${runtime}`),
      initFailed: (failure) => seen.push(`init failed ${failure.reason}`),
      started: (task) => seen.push(`started ${task}`),
      done: (task, outcome) => seen.push(`done ${task} ${outcome.ok}`),
      progressed: (task, items) => seen.push(`progressed ${task} ${items}`),
      retire: () => seen.push('retire'),
      handedBack: (tasks) => seen.push(`handed back ${tasks}`),
      printed: (lines) => {
        for (const { text, task } of lines) seen.push(`printed ${text.slice(0, 10)} by ${task}`)
        return full
      },
      exited: (how) => {
        exited.push(how)
        seen.push('exited')
      },
    },
  )
  return { handle, seen, commands, exited, exit, setFull: (until: Promise<void> | undefined) => (full = until) }
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

const killedBySignal: ProcessExit = { exitCode: undefined, signal: 'SIGKILL', oom: undefined }

describe('a worker handle over a scripted process', () => {
  it('sends the first command at once, and the others with a flush', async () => {
    const { handle, commands } = handleOver(new PassThrough())
    await until(() => commands.length === 1, 'the first command has arrived')
    expect(commands[0]).toMatchObject({ $case: 'init', value: { modules: ['/m.js'] } })
    handle.abort(7, 'CANCELLED')
    handle.flush()
    await until(() => commands.length === 2, 'the second command has arrived')
    expect(commands[1]).toEqual({ $case: 'abort', value: { task: 7, reason: 'CANCELLED' } })
  })

  it('passes on each report', async () => {
    const output = new PassThrough()
    const { seen } = handleOver(output)
    const info = { name: 'f', parameters: 1, module: '/m.js', retries: 0, runTimeoutMs: 0, neverKilled: false }
    output.write(frame({ $case: 'ready', value: { functions: [info], runtime: 'node' } }))
    output.write(frame({ $case: 'started', value: { task: 1 } }))
    output.write(frame({ $case: 'progress', value: { task: 1, items: 3 } }))
    output.write(frame({ $case: 'log', value: { task: 1, stream: 1, text: 'hello' } }))
    output.write(frame(done(1)))
    output.write(frame({ $case: 'returned', value: { tasks: [2, 3] } }))
    output.write(frame({ $case: 'retire', value: { rssBytes: 1 } }))
    await until(() => seen.length === 7, 'all reports are read')
    expect(seen).toEqual([
      'ready f node',
      'started 1',
      'progressed 1 3',
      'printed hello by 1',
      'done 1 true',
      'handed back 2,3',
      'retire',
    ])
  })

  it('reports the exit after the last report, whichever comes first', async () => {
    const output = new PassThrough()
    const { seen, exit, exited } = handleOver(output)
    exit(killedBySignal)
    await Promise.resolve()
    output.end(frame(done(1)))
    await until(() => seen.includes('exited'), 'the exit is reported')
    expect(seen).toEqual(['done 1 true', 'exited'])
    expect(exited[0]).toMatchObject({ pid: 4711, signal: 'SIGKILL', expected: false })
  })

  it('kills a worker that sends what is no report, and says why', async () => {
    const output = new PassThrough()
    const { seen, exit, exited } = handleOver(output)
    output.write(Buffer.from([0xff, 0xff, 0xff, 0xff]))
    await until(() => seen.includes('killed'), 'it is killed')
    exit(killedBySignal)
    output.end()
    await until(() => exited.length === 1, 'the exit is reported')
    expect(exited[0]?.why).toMatch(/malformed frame/)
  })

  it('kills a worker that closes its reports on its own', async () => {
    const output = new PassThrough()
    const { seen } = handleOver(output)
    output.end()
    await until(() => seen.includes('killed'), 'it is killed')
  })

  it('kills a worker that is not ready in time', async () => {
    const { seen } = handleOver(new PassThrough(), { startTimeoutMs: 20 })
    await until(() => seen.includes('killed'), 'it is killed')
  })
})

describe('a worker handle over a socket', () => {
  const folder = temporaryFolder()
  const listener = createServer()
  afterAll(() => {
    listener.close()
    folder.remove()
  })

  /** Both ends of a socket: a write to one end is read at the other in a later turn of the event loop. */
  async function socket(): Promise<{ server: Socket; worker: Socket }> {
    if (!listener.listening) listener.listen(folder.path('socket'))
    const accepted = once(listener, 'connection')
    const worker = connect(folder.path('socket'))
    const [server] = (await accepted) as [Socket]
    return { server, worker }
  }

  it('does not kill an overdue worker that has handed the task back', async () => {
    const { server, worker } = await socket()
    const graceMs = 300
    const { handle, seen } = handleOver(server, { graceMs })
    handle.overdue()
    worker.write(frame({ $case: 'returned', value: { tasks: [1] } }))
    await until(() => seen.length > 0, 'the report is read')
    // Longer than the grace, after which it would have been killed.
    await sleep(2 * graceMs)
    expect(seen).toEqual(['handed back 1'])
    worker.destroy()
  })

  it('reads reports that came while the output sink was full before afterReading calls back (P8)', async () => {
    const { server, worker } = await socket()
    const { handle, seen, setFull } = handleOver(server)
    let resume: () => void = () => {}
    setFull(new Promise((resolve) => (resume = resolve)))
    const print = (text: string) => worker.write(frame({ $case: 'log', value: { task: 0, stream: 1, text } }))
    print('x\n')
    await until(() => seen.length === 1, 'the sink is full')
    // More than Node reads ahead, but not at once, and the last report behind it.
    for (let i = 0; i < 4; i++) {
      print('y'.repeat(30_000))
      await sleep(10)
    }
    worker.write(frame(done(1)))
    await until(() => worker.writableLength === 0, 'all of it has left the worker')
    seen.length = 0
    handle.afterReading(() => seen.push('all read'))
    const before = performance.eventLoopUtilization()
    await sleep(100)
    // It waits, and does not look again and again.
    expect(performance.eventLoopUtilization(before).utilization).toBeLessThan(0.5)
    // A log that writes to a file has room when a write has ended: here, an operation of the file system.
    stat('.', () => {
      setFull(undefined)
      resume()
    })
    await until(() => seen.includes('all read'), 'everything has been read')
    worker.destroy()
    expect(seen.filter((word) => !word.startsWith('printed'))).toEqual(['done 1 true', 'all read'])
  })
})
