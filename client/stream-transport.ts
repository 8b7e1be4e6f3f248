import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js'
import type * as routing from '../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../proto/gen/farpool/v1/pool_service.js'
import { Failure, statusToFailure } from '../wire/failure.js'
import { FRAME_TARGET_BYTES, MAX_TIMER_MS, STREAM_IDLE_MS } from '../wire/limits.js'
import type { Reason } from '../wire/reason.js'
import { failureOf, GrpcTransport } from './grpc-transport.js'
import type { ClientOptions } from './options.js'
import type { ChunkOutcome, ChunksCall, FunctionCall, Pending, Transport } from './transport.js'

export type CallStream = ClientDuplexStream<routing.CallRequest, routing.CallResponse>

/**
 * Many calls in one stream: what is started in one turn of the event loop travels in one message, and outcomes come
 * back as many in a message as have ended. A lone call leaves in the turn in which it was made. All else (owned pools,
 * information) goes its own way.
 */
export class StreamTransport implements Transport {
  #session: Session | undefined
  readonly openPool: Transport['openPool']
  readonly closePool: Transport['closePool']
  readonly joinPool: Transport['joinPool']
  readonly terminate: Transport['terminate']
  readonly serverInfo: Transport['serverInfo']
  readonly functions: Transport['functions']
  readonly poolInfo: Transport['poolInfo']

  constructor(private readonly unary: GrpcTransport) {
    this.openPool = (call) => unary.openPool(call)
    this.closePool = (pool) => unary.closePool(pool)
    this.joinPool = (pool) => unary.joinPool(pool)
    this.terminate = (pool) => unary.terminate(pool)
    this.serverInfo = () => unary.serverInfo()
    this.functions = () => unary.functions()
    this.poolInfo = (pool) => unary.poolInfo(pool)
  }

  apply(call: FunctionCall): Pending<Uint8Array> {
    const session = this.#open()
    let id = 0
    const outcome = new Promise<Uint8Array>((resolve, reject) => {
      const settle = ({ payload, failures }: Settled) =>
        payload ? resolve(payload) : reject(failures[0]?.failure ?? NO_OUTCOME)
      id = session.begin(groupOf(call, []), { args: [...call.args], chunk: undefined }, settle, reject)
    })
    return { outcome, cancel: deadlined(call, outcome, (reason) => session.cancel([id], reason)) }
  }

  chunks(call: ChunksCall, onOutcome: (outcome: ChunkOutcome) => void): Pending<void> {
    const session = this.#open()
    const group = {
      ...groupOf(call, call.args),
      spread: call.spread,
      onError: call.failFast ? OnError.ON_ERROR_FAIL_FAST : OnError.ON_ERROR_UNSPECIFIED,
    }
    let ids: number[] = []
    const outcome = new Promise<void>((resolve, reject) => {
      let left = call.chunks.length
      const fail = (reason: Failure) => {
        session.cancel(ids, reason)
        reject(reason)
      }
      ids = call.chunks.map((payload, chunk) => {
        const settle = (settled: Settled) => {
          const refusal = settled.failures.find(
            ({ item, failure }) => item === undefined && REFUSALS.has(failure.reason),
          )
          if (refusal) return fail(refusal.failure)
          onOutcome({ chunk, ...settled })
          if (--left === 0) resolve()
        }
        return session.begin(group, { args: [], chunk: payload }, settle, reject)
      })
    })
    const cancel = (reason: Failure) => session.cancel(ids, reason)
    return { outcome, cancel: deadlined(call, outcome, cancel) }
  }

  close(): void {
    this.#session?.close()
    this.unary.close()
  }

  #open(): Session {
    if (!this.#session?.usable) this.#session = new Session(this.unary.callStream())
    return this.#session
  }
}

interface Settled {
  readonly payload: Uint8Array | undefined
  readonly failures: ChunkOutcome['failures']
}

interface OpenCall {
  readonly settle: (outcome: Settled) => void
  readonly fail: (reason: Failure) => void
}

/** Said of a request before any of it was accepted: nothing of it has run or will. */
const REFUSALS: ReadonlySet<Reason> = new Set<Reason>([
  'BAD_REQUEST',
  'FUNCTION_NOT_FOUND',
  'POOL_NOT_FOUND',
  'POOL_CLOSED',
  'SERVER_DRAINING',
  'INITIALIZER_FAILED',
  'MODULE_LOAD_FAILED',
])

const NO_OUTCOME = new Failure('INTERNAL', 'the server sent neither a result nor a failure')

type Group = Omit<routing.CallGroup, 'calls'>

/**
 * One stream and the calls in it.
 *   open    takes calls
 *   ending  takes none; the server completes what it has, then ends the stream
 *   ended   over; calls that had no outcome by then have failed
 */
class Session {
  #state: 'open' | 'ending' | 'ended' = 'open'
  readonly #open = new Map<number, OpenCall>()
  #nextId = 1
  /** Messages to be sent, the last of which is still being filled. */
  #frames: routing.CallRequest[] = []
  #bytes = 0
  /** Where the next call goes, if it has all but its own arguments in common with the one before. */
  #last: { readonly key: Group; readonly group: routing.CallGroup } | undefined
  #scheduled = false
  #blocked = false
  #idle: NodeJS.Timeout | undefined

  constructor(private readonly stream: CallStream) {
    stream.on('data', ({ outcomes }: routing.CallResponse) => {
      for (const outcome of outcomes) this.#settle(outcome)
    })
    stream.on('error', (error: ServiceError) => this.#ended(failureOf(error)))
    // A server that drains ends the stream when it has answered all that it received; the rest it has never seen.
    stream.on('end', () => this.#ended(new Failure('SERVER_DRAINING', 'the server has ended the stream')))
    stream.on('drain', () => {
      this.#blocked = false
      this.#flush()
    })
  }

  get usable(): boolean {
    return this.#state === 'open'
  }

  /** Starts a call; returns its id. */
  begin(group: Group, call: Omit<routing.CallItem, 'id'>, settle: OpenCall['settle'], fail: OpenCall['fail']): number {
    const id = this.#nextId++
    this.#open.set(id, { settle, fail })
    clearTimeout(this.#idle)
    let bytes = 16 + (call.chunk?.length ?? 0)
    for (const arg of call.args) bytes += arg.length
    const frame = this.#frame(bytes)
    if (!this.#last || !isSame(this.#last.key, group)) {
      this.#last = { key: group, group: { ...group, calls: [] } }
      frame.groups.push(this.#last.group)
    }
    this.#last.group.calls.push({ id, ...call })
    return id
  }

  /** Gives calls up: they fail with the reason at once; those that have ended stay as they are. */
  cancel(ids: readonly number[], reason: Failure): void {
    for (const id of ids) {
      const call = this.#open.get(id)
      if (!call) continue
      this.#open.delete(id)
      if (this.#state === 'open') this.#frame(4).cancelled.push(id)
      call.fail(reason)
    }
    this.#rest()
  }

  /** Takes no more calls. */
  #end(): void {
    // Words that the server has not taken for so long are lost, and with them cancellations: it has to hear otherwise.
    if (this.#frames.length > 0) return this.close()
    this.#state = 'ending'
    this.stream.end()
  }

  /** Ends at once; what the server still has of it is cancelled there. */
  close(): void {
    clearTimeout(this.#idle)
    if (this.#state !== 'ended') this.stream.cancel()
  }

  #settle({ id, payload, failures }: routing.CallOutcome): void {
    const call = this.#open.get(id)
    if (!call) return
    this.#open.delete(id)
    call.settle({
      payload,
      failures: failures.map(({ item, status }) => ({ item, failure: status ? statusToFailure(status) : NO_OUTCOME })),
    })
    this.#rest()
  }

  #ended(reason: Failure): void {
    this.#state = 'ended'
    clearTimeout(this.#idle)
    const calls = [...this.#open.values()]
    this.#open.clear()
    for (const call of calls) call.fail(reason)
  }

  /** Without calls the stream is ended after a while; a program that has nothing else to do can then end. */
  #rest(): void {
    if (this.#open.size > 0 || this.#state !== 'open') return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => this.#end(), STREAM_IDLE_MS)
  }

  /** The message being filled; it leaves at the end of this turn, or when the stream takes more. */
  #frame(bytes: number): routing.CallRequest {
    let frame = this.#frames.at(-1)
    if (!frame || this.#bytes + bytes > FRAME_TARGET_BYTES) {
      frame = { groups: [], cancelled: [] }
      this.#frames.push(frame)
      this.#last = undefined
      this.#bytes = 0
    }
    this.#bytes += bytes
    if (!this.#scheduled) {
      this.#scheduled = true
      queueMicrotask(() => {
        this.#scheduled = false
        this.#flush()
      })
    }
    return frame
  }

  #flush(): void {
    while (this.#frames.length > 0 && !this.#blocked && this.#state === 'open') {
      const frame = this.#frames.shift()
      if (this.#frames.length === 0) this.#last = undefined
      if (frame) this.#blocked = !this.stream.write(frame)
    }
  }
}

const groupOf = (call: FunctionCall, args: readonly Uint8Array[]): Group => ({
  pool: call.pool,
  function: call.function,
  args: [...args],
  kwargs: call.kwargs,
  replyKind: call.replyKind,
  retries: call.retries,
  spread: false,
  onError: OnError.ON_ERROR_UNSPECIFIED,
  timeoutMs: call.deadline === undefined ? 0 : Math.max(1, Math.ceil(call.deadline - Date.now())),
})

/** Whether calls of these groups can share one. Bound values are compared by identity. */
const isSame = (a: Group, b: Group): boolean =>
  a === b ||
  (a.function === b.function &&
    a.pool === b.pool &&
    a.args.length === 0 &&
    b.args.length === 0 &&
    a.kwargs === b.kwargs &&
    a.replyKind === b.replyKind &&
    a.retries === b.retries &&
    a.spread === b.spread &&
    a.onError === b.onError &&
    a.timeoutMs === b.timeoutMs)

/** The server ends a call at its deadline; so does this side, in case that word does not come. */
function deadlined(call: FunctionCall, outcome: Promise<unknown>, cancel: (reason: Failure) => void) {
  if (call.deadline === undefined) return cancel
  const left = Math.min(MAX_TIMER_MS, Math.max(0, call.deadline - Date.now()))
  const late = () => cancel(new Failure('TASK_TIMEOUT', "the call's timeout passed before its result came"))
  const timer = setTimeout(late, left)
  const done = () => clearTimeout(timer)
  outcome.then(done, done)
  return cancel
}

/** The way to the server at this address, as the options choose it. */
export function connect(address: string, { transport }: ClientOptions): Transport {
  const unary = new GrpcTransport(address)
  return transport === 'unary' ? unary : new StreamTransport(unary)
}
