import { Socket } from 'node:net'
import type { Init, Run } from '../../proto/gen/farpool/worker/v1/worker.js'
import { asFailure, Failure, failureToStatus } from '../../wire/failure.js'
import {
  decodeToWorker,
  encodeFromWorker,
  FrameReader,
  type FromWorkerFrame,
  type ToWorkerFrame,
} from '../../wire/frame.js'
import { RunningTask, setCurrentTask } from './context.js'
import { describe } from './describe.js'
import { decodePart, failedDone, invoke } from './invoke.js'
import { type LoadedFunction, loadFunctions } from './load.js'
import { capturePrints } from './prints.js'

/**
 * A worker process: proto/farpool/worker/v1/worker.proto, spoken over file descriptor 3. It loads the modules, runs
 * the initializer, then executes one task after another. When the socket ends, the server is gone and so is it.
 */
const FRAMES_FD = 3
/** More printed text than this waits to be read: further text goes round the frames (prints.ts). */
const PRINT_BACKLOG_BYTES = 1024 * 1024

let functions: ReadonlyMap<string, LoadedFunction> = new Map()
let stacks = false
let running: RunningTask | undefined
/** Tasks in the order of their arrival; each starts when the one before has ended. */
let last: Promise<void> = Promise.resolve()
/** Tasks that have not started, by number; for those that are aborted before they do. */
const waiting = new Map<number, RunningTask>()

const socket = new Socket({ fd: FRAMES_FD })
const reader = new FrameReader((frame) => receive(decodeToWorker(frame)))
socket.on('data', (bytes) => reader.push(bytes))
socket.on('error', () => process.exit(1))
socket.on('close', () => process.exit(0))
// The server decides when a worker ends; a signal for the whole terminal or container is not for the worker.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
capturePrints((stream, text) => {
  if (socket.writableLength > PRINT_BACKLOG_BYTES) return false
  send({ $case: 'log', value: { task: running?.id ?? 0, stream, text } })
  return true
})

function send(frame: FromWorkerFrame): void {
  socket.write(encodeFromWorker(frame))
}

function receive(frame: ToWorkerFrame | undefined): void {
  switch (frame?.$case) {
    case 'init':
      last = initialize(frame.value)
      return
    case 'run':
      return enqueue(frame.value)
    case 'abort':
      if (running?.id === frame.value.task) running.abort(frame.value.reason)
      waiting.get(frame.value.task)?.abort(frame.value.reason)
      return
    case 'stop':
      void last.then(() => socket.end(() => process.exit(0)))
      return
    case undefined:
      return
  }
}

async function initialize(init: Init): Promise<void> {
  stacks = init.stacks
  try {
    functions = await loadFunctions(init.modules, stacks)
    if (init.initializer !== '') await runInitializer(init)
    send({
      $case: 'ready',
      value: {
        functions: [...functions].map(([name, { call, module }]) => ({ name, parameters: call.length, module })),
        runtime: `node ${process.version}`,
      },
    })
  } catch (error) {
    send({ $case: 'initFailed', value: { status: failureToStatus(asFailure(error)) } })
    await new Promise<void>((resolve) => socket.end(resolve))
    process.exit(1)
  }
}

async function runInitializer(init: Init): Promise<void> {
  const initializer = functions.get(init.initializer)
  if (!initializer) {
    const names = [...functions.keys()].join(', ')
    throw new Failure(
      'INITIALIZER_FAILED',
      `the initializer ${JSON.stringify(init.initializer)} is not exported; there are: ${names}`,
    )
  }
  const args = init.initargs.map((arg, at) => decodePart(arg, `initializer argument ${at + 1}`).value)
  try {
    await initializer.call(...args)
  } catch (error) {
    const remote = describe(error, stacks)
    throw new Failure(
      'INITIALIZER_FAILED',
      `the initializer ${init.initializer} threw ${remote.type}: ${remote.message}`,
      {
        remote,
        metadata: { initializer: init.initializer },
      },
    )
  }
}

function enqueue(run: Run): void {
  const task = new RunningTask(run.task, run.attempt)
  waiting.set(task.id, task)
  last = last.then(() => execute(run, task))
}

async function execute(run: Run, task: RunningTask): Promise<void> {
  waiting.delete(task.id)
  const loaded = functions.get(run.function)
  if (task.aborted || !loaded) {
    const failure = loaded
      ? new Failure('CANCELLED', 'the task was aborted before it began', { started: false })
      : new Failure('FUNCTION_NOT_FOUND', `no function ${JSON.stringify(run.function)} is registered`)
    return send({ $case: 'done', value: failedDone(run.task, failure) })
  }
  running = task
  setCurrentTask(task)
  send({ $case: 'started', value: { task: task.id } })
  const done = await invoke(loaded.call, run, task, stacks)
  running = undefined
  setCurrentTask(undefined)
  send({ $case: 'done', value: done })
}
