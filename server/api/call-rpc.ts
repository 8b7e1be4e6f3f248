import type { CallRequest } from '../../proto/gen/farpool/routing/v1/routing.js'
import { asFailure, Failure } from '../../wire/failure.js'
import type { Pieces } from '../../wire/framing/protobuf.js'
import type { Call, Requests } from '../grpc/adapter.js'
import { CallStream } from '../session/call-stream.js'
import type { RpcContext } from './rpc-context.js'

/** Call: a stream of calls, many in a message. Each is a task with its own timeout, cancellation and outcome. */
export async function* callStream(
  context: RpcContext,
  requests: Requests<CallRequest>,
  call: Call,
): AsyncGenerator<Pieces> {
  const opened = await open(context, requests, call)
  if (!opened) return
  const { calls, epoch, session } = opened
  const isReplaced = () => calls.epoch !== epoch
  call.onEnd((reason) => {
    if (isReplaced()) return
    // The calls of a session outlive a stream that breaks. Any other end of a stream ends them.
    if (session && reason.reason === 'CANCELLED') detach(context, opened)
    else calls.abandon(reason)
  })
  const stopListening = context.admission.onDrain(() => calls.endInput())
  try {
    if (session) yield calls.greeting()
    for (let message = await calls.take(epoch); message; message = await calls.take(epoch)) yield message
  } finally {
    stopListening()
    // After a detach, or in a later epoch, the calls do not belong to this stream any more.
    if (!isReplaced()) {
      calls.end(new Failure('CANCELLED', 'the stream of the call has ended'))
      if (session) context.sessions.remove(session)
    }
  }
}

interface OpenedStream {
  readonly calls: CallStream
  readonly epoch: number
  /** The key of its session; undefined if it has none. */
  readonly session: string | undefined
}

/** The stream of a session has broken, or ended without its last message. */
function detach({ sessions }: RpcContext, { calls, session }: OpenedStream): void {
  if (!session || calls.hasSaidLast) return
  calls.detach()
  sessions.detach(session)
}

/**
 * Waits for the first message, which says whether the calls belong to a session. Undefined if the stream ends without
 * one. A server that drains opens nothing new, but resumes sessions.
 */
function open(context: RpcContext, requests: Requests<CallRequest>, call: Call): Promise<OpenedStream | undefined> {
  const { caller } = call
  return new Promise((resolve, reject) => {
    let opened: OpenedStream | undefined
    let isOver = false
    const isCurrent = () => opened !== undefined && opened.calls.epoch === opened.epoch
    const begin = (first: CallRequest) => {
      const { session, groups, cancelled } = first
      if (session && groups.length + cancelled.length > 0) {
        throw new Failure('BAD_REQUEST', 'the first message of a session brings no calls and gives none up')
      }
      if (!session?.resumed) context.admission.check()
      const create = () => new CallStream(context, session !== undefined, caller)
      const attached = session && context.sessions.attach(session, caller.principal, create)
      const calls = attached?.session ?? create()
      opened = { calls, epoch: calls.attach(requests, first.received, caller), session: attached?.key }
      resolve(opened)
      if (!session) calls.accept(first)
    }
    requests.listen({
      message: (request) => {
        if (isCurrent()) opened?.calls.accept(request)
        else if (!opened && !isOver) begin(request)
      },
      end: () => {
        if (!opened) resolve(undefined)
        else if (isCurrent() && opened.session) detach(context, opened)
        else if (isCurrent()) opened.calls.endInput()
      },
      fail: (error) => {
        if (isCurrent()) opened?.calls.abandon(asFailure(error))
        else reject(error)
      },
    })
    call.onEnd((reason) => {
      isOver = true
      reject(reason)
    })
  })
}
