import { Pool } from '../../pool/pool.js'
import { availableCpus } from '../../pool/process/available-cpus.js'
import { NodeLauncher } from '../../pool/process/launcher.js'
import {
  type Client,
  failed,
  type Job,
  jobOf,
  type Outcome,
  type Task,
  type TaskOwner,
} from '../../pool/scheduler/task.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { asFailure, Failure } from '../../wire/failure.js'
import { type GroupHead, headOf, isSameHead, NO_ARGS } from '../../wire/framing/call-codec.js'
import { bytesOf } from '../../wire/framing/protobuf.js'
import { packageVersion } from '../../wire/package.js'
import { MAX_FRAME_BYTES } from '../../wire/protocol.js'
import { inPhase } from '../../wire/timeout.js'
import { type CallPort, CallWithDeadline } from './call-port.js'
import { ChunksRun } from './chunk-calls.js'
import { KeepAlive } from './keep-alive.js'
import type {
  ChunkOutcome,
  ChunksCall,
  FunctionCall,
  FunctionInfo,
  Lease,
  OpenPoolCall,
  Pending,
  PoolView,
  ServerView,
  Sink,
  Ticket,
  Transport,
  TransportEvent,
  WorkerExit,
} from './transport.js'

/** The most bytes of arguments, or of a result, of one call: half of what a frame to or from a worker may have. */
const MAX_CALL_BYTES = MAX_FRAME_BYTES / 2

/** A line that a function printed. */
export interface OutputLine {
  readonly text: string
  readonly stream: 'stdout' | 'stderr'
  /** The worker process. */
  readonly pid: number
}

/** What a local pool needs besides the options of every pool. Checked. */
export interface LocalSettings {
  /** Absolute paths. */
  readonly modules: readonly string[]
  readonly graceMs: number
  readonly startTimeoutMs: number
  readonly maxHeapMb: number | undefined
  /** Takes what functions print. If it returns a promise, the worker waits until that resolves. */
  readonly print: (line: OutputLine) => Promise<void> | undefined
}

/**
 * The transport of Pool.local: an engine with one pool, in this process. Nothing travels but commands and reports of the
 * workers.
 *
 *   apply, chunks ─▶ begin ─▶ job of the head ─▶ pool.submit ─▶ worker
 *   Sink ◀─ #deliver, in a microtask ◀─ settled ─────────────────┘
 *
 * Outcomes are delivered later than the pool settles them, because a user's callback may call the pool again, and the
 * scheduler must not be called while it works.
 *
 * The pool keeps the program alive while it opens, has calls, or ends; when it is idle, the program may end.
 */
export class InProcessTransport implements Transport, CallPort {
  readonly wasConnected = true
  onEvent?: (event: TransportEvent) => void
  readonly serverEndsCalls = false
  /** The pool has one client. */
  readonly #client: Client = { identity: { name: 'this process' }, isFull: false, isPaced: true }
  readonly #alive = new KeepAlive()
  /** Calls without an outcome. */
  #open = 0
  /** Calls whose outcome is on its way to their Sinks. */
  #settled: LocalCall[] = []
  #pool: Pool | undefined
  /** The last head, and the job that was made of it: the tasks of one job travel to a worker together. */
  #last: { readonly head: GroupHead; readonly job: Job } | undefined

  constructor(private readonly settings: LocalSettings) {}

  apply(call: FunctionCall, sink: Sink): Ticket {
    if (call.deadline !== undefined) return new CallWithDeadline(this, call, sink)
    return this.begin(headOf(call, NO_ARGS), call.args, undefined, sink)
  }

  chunks(call: ChunksCall, onOutcome: (outcome: ChunkOutcome) => void): Pending<void> {
    return new ChunksRun(this, () => this, call, onOutcome)
  }

  begin(head: GroupHead, args: readonly Uint8Array[], chunk: Uint8Array | undefined, sink: Sink): Ticket {
    const call = new LocalCall(sink, this.#onSettled)
    if (this.#open++ === 0) this.#alive.hold()
    try {
      checkSize(args, chunk)
      const pool = this.#opened
      const job = this.#jobOf(pool, head)
      call.begin(pool, pool.submit({ job, args: chunk ? undefined : args, chunk, owner: call, key: 0, isHeld: false }))
    } catch (error) {
      call.settled(0, failed(asFailure(error)))
    }
    return call
  }

  /** Opens the one pool of this transport. */
  openPool(call: OpenPoolCall): Lease {
    const { maxHeapMb, print, ...settings } = this.settings
    const launcher = new NodeLauncher(maxHeapMb)
    const pool = new Pool('local', {
      ...settings,
      launcher,
      processes: call.processes ?? availableCpus(),
      initializer: call.initializer,
      initargs: call.initargs,
      maxTasksPerChild: call.maxtasksperchild,
      maxRunningPerClient: undefined,
      runTimeoutMs: 0,
      maxRssBytes: 0,
      maxResultBytes: MAX_CALL_BYTES,
      limits: NO_LIMITS,
      stacks: true,
      observer: { worker: (event) => event.kind === 'exited' && this.#onExit(event.exit) },
      output: ({ pid }, lines) => {
        let full: Promise<void> | undefined
        for (const { text, stream } of lines) full = print({ text, stream, pid }) ?? full
        return full
      },
    })
    this.#pool = pool
    this.#alive.hold()
    const opened = pool.ready
      .then(() => ({ pool: pool.name, processes: pool.options.processes }))
      .finally(() => this.#alive.release())
    const ended = pool.ended.then(() => {
      launcher.close()
      this.#alive.end()
      const { state } = pool
      return state.kind === 'failed' ? state.failure : undefined
    })
    return { opened, ended, end: () => void this.terminate() }
  }

  async closePool(): Promise<void> {
    this.#opened.close()
    this.#holdUntilEnded()
  }

  async terminate(): Promise<void> {
    this.#holdUntilEnded()
    await this.#opened.terminate()
  }

  /** Later: the listener may call the pool. */
  #onExit({ pid, exitCode, signal }: WorkerExit): void {
    queueMicrotask(() => this.onEvent?.({ kind: 'workerExited', exit: { pid, exitCode, signal } }))
  }

  async serverInfo(): Promise<ServerView> {
    const { runtime, options } = this.#opened
    const { processes, graceMs } = options
    return { version: packageVersion(), runtime, processes, maxMessageBytes: MAX_CALL_BYTES, graceMs, pools: [] }
  }

  async functions(): Promise<readonly FunctionInfo[]> {
    return this.#opened.functions.all
  }

  async poolInfo(): Promise<PoolView> {
    const { name, state, stats, workers, options } = this.#opened
    const { queued, queuedBytes, running, workersStarted, ...tasks } = stats
    return {
      pool: name,
      shared: false,
      state: state.kind,
      failure: 'failure' in state ? state.failure : undefined,
      processes: options.processes,
      workers: workers.map(({ phase, ...worker }) => ({ ...worker, state: phase })),
      queued,
      queuedBytes,
      running,
      tasks,
      workersStarted,
    }
  }

  /** The lease has ended the pool. */
  close(): void {}

  get #opened(): Pool {
    if (this.#pool) return this.#pool
    throw new Failure('POOL_CLOSED', 'the local pool has not been opened')
  }

  #jobOf({ functions }: Pool, head: GroupHead): Job {
    if (this.#last && isSameHead(this.#last.head, head)) return this.#last.job
    const info = functions.byName.get(head.function)
    if (!info) throw functions.unknown(head.function)
    const failFast = head.onError === OnError.ON_ERROR_FAIL_FAST
    const job = jobOf(head, this.#client, failFast, { info, runTimeoutMs: 0 })
    this.#last = { head, job }
    return job
  }

  readonly #onSettled = (call: LocalCall): void => {
    if (this.#settled.push(call) === 1) queueMicrotask(() => this.#deliver())
  }

  #deliver(): void {
    const settled = this.#settled
    this.#settled = []
    for (const call of settled) call.deliver()
    this.#open -= settled.length
    if (this.#open === 0) this.#alive.release()
  }

  #holdUntilEnded(): void {
    this.#alive.holdUntil(this.#opened.ended)
  }
}

const NO_LIMITS = {
  maxQueued: Number.POSITIVE_INFINITY,
  maxQueuedPerClient: Number.POSITIVE_INFINITY,
  maxQueuedBytes: Number.POSITIVE_INFINITY,
}

/** A call from `begin` until its Sink has been told the outcome. */
class LocalCall implements Ticket, TaskOwner {
  #pool: Pool | undefined
  #task: Task | undefined
  #outcome: Outcome | undefined
  /** Why it was cancelled. */
  #cancelled: Failure | undefined

  constructor(
    private readonly sink: Sink,
    private readonly onSettled: (call: LocalCall) => void,
  ) {}

  begin(pool: Pool, task: Task): void {
    this.#pool = pool
    this.#task = task
  }

  cancel(reason: Failure): void {
    if (this.#cancelled) return
    this.#cancelled = reason
    if (this.#task) this.#pool?.end(this.#task, reason)
  }

  settled(_key: number, outcome: Outcome): void {
    this.#outcome = outcome
    this.onSettled(this)
  }

  deliver(): void {
    const { sink } = this
    const outcome = this.#outcome
    if (!outcome) return
    if (this.#cancelled) {
      // Its outcome may have been on its way when it was cancelled.
      const isItsOwn = !outcome.ok && outcome.failure.reason === this.#cancelled.reason
      sink.fail(isItsOwn ? outcome.failure : inPhase(this.#cancelled.of(true), 'running'))
    } else if (outcome.ok) sink.settle(outcome.payload, outcome.failures)
    else sink.settle(undefined, [{ item: undefined, failure: outcome.failure }])
  }
}

function checkSize(args: readonly Uint8Array[], chunk: Uint8Array | undefined): void {
  const bytes = bytesOf(args, chunk)
  if (bytes <= MAX_CALL_BYTES) return
  const message = `the arguments of the call take ${bytes} bytes; a worker takes ${MAX_CALL_BYTES}`
  throw new Failure('PAYLOAD_TOO_LARGE', message)
}
