/**
 * The main program of a worker process, the Node implementation of proto/farpool/worker/v1/worker.proto: commands come in,
 * reports go out.
 *
 *     file descriptor 3  ──▶  Init, Run, Abort, Stop                                   (ToWorker, the commands)
 *     file descriptor 4  ◀──  Ready | InitFailed, Started, Done, Returned, Progress,
 *                             Log, Retire, Uncaught                                    (FromWorker, the reports)
 *
 * 1  Init comes first. The worker loads the modules, runs the initializer and answers Ready, or InitFailed and exits.
 * 2  Run brings tasks. task-runner.ts executes them one at a time and answers each with Done, or with Returned.
 * 3  Abort ends the interest in one task, Stop the worker after the tasks that it has.
 * 4  When the socket of commands closes, the server is gone. The worker exits at once.
 */

import { readFileSync, writeFileSync, writeSync, writevSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Init } from '../proto/gen/farpool/worker/v1/worker.js'
import { asFailure, Failure, failureToStatus } from '../wire/failure.js'
import {
  decodeToWorker,
  FrameReader,
  type FromWorkerFrame,
  type ToWorkerFrame,
  writeFromWorker,
} from '../wire/framing/frames.js'
import { type Pieces, ProtoWriter } from '../wire/framing/protobuf.js'
import { COMMANDS_PART, REPORTS_PART, SharedFileReader, SharedFileWriter } from '../wire/framing/shared-file.js'
import { describeThrown } from './describe-error.js'
import { decodePart } from './invoke.js'
import { type LoadedFunction, loadFunctions } from './load-functions.js'
import { captureOutput, pieces } from './output-capture.js'
import { type Reports, TaskRunner } from './task-runner.js'

const COMMANDS_FD = 3
const REPORTS_FD = 4

/** Open if the launcher says so (wire/framing/shared-file.ts). */
const SHARED_FILE_FD = 6

/** With more unsent reports than this, in bytes, printed text goes to the real stdout and stderr (output-capture.ts). */
const OUTPUT_BACKLOG_BYTES = 1024 * 1024

/** The largest score of the kernel, which counts thousandths of the memory. */
const MAX_OOM_SCORE = 1_000

/** Added to the score that the worker inherits from its server. */
const WORKER_OOM_SCORE = 500

/**
 * Writes reports to their socket. A report is in the socket before `send` returns, unless the socket is full: a worker that
 * dies in its next task has then told the server how the previous one ended.
 */
class SocketReports implements Reports {
  readonly #writer = new ProtoWriter()
  #pending: Promise<void> | undefined

  constructor(
    private readonly socket: Socket,
    private readonly fd: number,
    private readonly file: SharedFileWriter | undefined,
  ) {}

  /** The number of bytes that wait for the socket. */
  get backlog(): number {
    return this.socket.writableLength
  }

  get pending(): Promise<void> | undefined {
    return this.#pending
  }

  send(report: FromWorkerFrame): void {
    this.#writer.reset()
    writeFromWorker(this.#writer, report, this.file)
    const views = this.#writer.views()
    const written = this.#pending === undefined ? this.#writeNow(views) : 0
    if (written === this.#writer.length) return
    const pending = this.#writeLater(this.#writer.takePieces().after(written))
    this.#pending = pending
    void pending.then(() => {
      if (this.#pending === pending) this.#pending = undefined
    })
  }

  /** Resolves when the socket has taken all of it. */
  #writeLater({ pieces }: Pieces): Promise<void> {
    return new Promise((resolve) => {
      this.socket.cork()
      for (const piece of pieces) this.socket.write(piece, piece === pieces.at(-1) ? () => resolve() : undefined)
      this.socket.uncork()
    })
  }

  /** Returns how many bytes the socket took. */
  #writeNow(views: readonly Uint8Array[]): number {
    // A named pipe of Windows does not allow it.
    if (process.platform === 'win32') return 0
    try {
      const [first] = views
      return views.length === 1 && first ? writeSync(this.fd, first) : writevSync(this.fd, views)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0
      // The server is gone.
      return process.exit(1)
    }
  }
}

preferForOomKill()
const commandSocket = new Socket({ fd: COMMANDS_FD, writable: false })
const reportSocket = new Socket({ fd: REPORTS_FD, readable: false })
const hasSharedFile = process.argv[2] === 'shared-file'
const reports = new SocketReports(
  reportSocket,
  REPORTS_FD,
  hasSharedFile ? new SharedFileWriter(SHARED_FILE_FD, REPORTS_PART) : undefined,
)
const frames = new FrameReader(
  (frame) => receive(decodeToWorker(frame)),
  hasSharedFile ? new SharedFileReader(SHARED_FILE_FD, COMMANDS_PART) : undefined,
)
/** Exists once the initializer has run. */
let runner: TaskRunner | undefined
let initialized: Promise<void> = Promise.resolve()
/** Whether failures carry stacks. Init says so. */
let stacks = false

commandSocket.on('data', (bytes) => frames.push(bytes))
commandSocket.on('error', () => process.exit(1))
commandSocket.on('close', () => process.exit(0))
reportSocket.on('error', () => process.exit(1))
// Signals that reach the whole terminal or container. Only the server decides when a worker ends.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
process.on('uncaughtExceptionMonitor', reportUncaught)
captureOutput((stream, text) => {
  if (reports.backlog > OUTPUT_BACKLOG_BYTES) return false
  for (const piece of pieces(text)) {
    reports.send({ $case: 'log', value: { task: runner?.running ?? 0, stream, text: piece } })
  }
  return true
})

function receive(command: ToWorkerFrame | undefined): void {
  switch (command?.$case) {
    case 'init':
      initialized = initialize(command.value)
      return
    case 'run':
      return runner?.add(command.value)
    case 'abort':
      return runner?.abort(command.value.task, command.value.reason)
    case 'stop':
      void initialized.then(() => runner?.idle()).then(() => reportSocket.end(() => process.exit(0)))
      return
    case undefined:
      // A command that only newer servers send.
      return
    default:
      command satisfies never
  }
}

async function initialize(init: Init): Promise<void> {
  stacks = init.stacks
  try {
    const functions = await loadFunctions(init.modules, init.stacks)
    if (init.initializer !== '') await runInitializer(init, functions)
    runner = new TaskRunner(functions, init, reports)
    reports.send({
      $case: 'ready',
      value: {
        functions: [...functions].map(([name, { call, module, options }]) => ({
          name,
          parameters: call.length,
          module,
          ...options,
        })),
        runtime: `node ${process.version}`,
      },
    })
  } catch (error) {
    reports.send({ $case: 'initFailed', value: { status: failureToStatus(asFailure(error)) } })
    await new Promise<void>((resolve) => reportSocket.end(resolve))
    process.exit(1)
  }
}

async function runInitializer(init: Init, functions: ReadonlyMap<string, LoadedFunction>): Promise<void> {
  const initializer = functions.get(init.initializer)
  if (!initializer) {
    const names = [...functions.keys()].join(', ')
    throw new Failure(
      'INITIALIZER_FAILED',
      `the initializer ${JSON.stringify(init.initializer)} is not exported; the modules export ${names}`,
    )
  }
  const args = init.initargs.map((arg, at) => decodePart(arg, `argument ${at + 1} of initargs`).value)
  try {
    await initializer.call(...args)
  } catch (error) {
    const remote = describeThrown(error, { stacks: init.stacks, kind: 'cbor' })
    throw new Failure(
      'INITIALIZER_FAILED',
      `the initializer ${init.initializer} threw ${remote.type}: ${remote.message}`,
      { remote, metadata: { initializer: init.initializer } },
    )
  }
}

/** Reports why Node ends this process next: an exception that nothing caught, or a rejection that nothing handled. */
function reportUncaught(error: unknown, origin: NodeJS.UncaughtExceptionOrigin): void {
  // A module that listens itself decides whether the process ends.
  if (process.listenerCount('uncaughtException') > 0 || process.hasUncaughtExceptionCaptureCallback()) return
  const remote = describeThrown(error, { stacks, kind: 'cbor' })
  const what = origin === 'unhandledRejection' ? 'an unhandled rejection' : 'an uncaught exception'
  const failure = new Failure('WORKER_CRASHED', `${what}: ${remote.type}: ${remote.message}`, { remote })
  reports.send({ $case: 'uncaught', value: { status: failureToStatus(failure) } })
}

/** When the machine is out of memory, the kernel kills a worker before it kills the server. Linux only. */
function preferForOomKill(): void {
  try {
    const file = '/proc/self/oom_score_adj'
    const inherited = Number(readFileSync(file, 'utf8'))
    writeFileSync(file, String(Math.min(MAX_OOM_SCORE, Math.max(0, inherited) + WORKER_OOM_SCORE)))
  } catch {
    // Another system, or no permission.
  }
}
