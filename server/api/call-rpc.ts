import type { CallRequest, Session } from '../../proto/gen/farpool/routing/v1/routing.js'
import { asFailure, Failure } from '../../wire/failure.js'
import type { Call, Requests } from '../grpc/adapter.js'
import { CallStream } from '../session/call-stream.js'
import type { RpcContext } from './rpc-context.js'

/** Call: a stream of calls, many in a message; each is a task with its own timeout, cancellation and outcome. */
export async function* callStream(
  context: RpcContext,
  requests: Requests<CallRequest>,
  call: Call,
): AsyncGenerator<Uint8Array> {
  const begun = await begin(context, requests, call)
  if (!begun) return
  const { calls, turn, session } = begun
  const isTaken = () => calls.turn !== turn
  call.onEnd((reason) => {
    if (isTaken()) return
    // The calls of a session outlive a stream that breaks; its deadline ends them, and that of any other does.
    if (session && reason.reason === 'CANCELLED') detach(context, begun)
    else calls.abandon(reason)
  })
  const stopListening = context.admission.onDrain(() => calls.inputEnded())
  try {
    if (session) yield calls.greeting()
    for (let message = await calls.take(turn); message; message = await calls.take(turn)) yield message
  } finally {
    stopListening()
    // Where another stream has taken the calls over, or may, they are none of this one's business any more.
    if (!isTaken()) {
      calls.end(new Failure('CANCELLED', 'the stream of the call has ended'))
      if (session) context.sessions.remove(session.id)
    }
  }
}

/** The stream of a session has broken, or ended without its last word. */
function detach({ sessions }: RpcContext, { calls, session }: Begun): void {
  if (!session || calls.isLast) return
  calls.detach()
  sessions.detach(session.id)
}

interface Begun {
  readonly calls: CallStream
  readonly turn: number
  readonly session: Session | undefined
}

/**
 * Waits for the first message, which says whether the calls are those of a session. Undefined where none comes. A server
 * that drains takes no new calls, but goes on with those of a session.
 */
function begin(context: RpcContext, requests: Requests<CallRequest>, call: Call): Promise<Begun | undefined> {
  return new Promise((resolve, reject) => {
    let begun: Begun | undefined
    let isOver = false
    const isMine = () => begun !== undefined && begun.calls.turn === begun.turn
    const open = (first: CallRequest) => {
      const { session, groups, cancelled } = first
      if (session && groups.length + cancelled.length > 0) {
        throw new Failure('BAD_REQUEST', 'the first message of a session brings no calls and gives none up')
      }
      if (!session?.resumed) context.admission.check()
      const make = () => new CallStream(context, session !== undefined)
      const calls = session ? context.sessions.attach(session, make) : make()
      const connection = typeof call.client === 'object' ? call.client : undefined
      begun = { calls, turn: calls.attach(requests, first.received, connection), session }
      resolve(begun)
      if (!session) calls.accept(first)
    }
    requests.listen({
      message: (request) => {
        if (isMine()) begun?.calls.accept(request)
        else if (!begun && !isOver) open(request)
      },
      end: () => {
        if (!begun) resolve(undefined)
        else if (isMine() && begun.session) detach(context, begun)
        else if (isMine()) begun.calls.inputEnded()
      },
      fail: (error) => {
        if (isMine()) begun?.calls.abandon(asFailure(error))
        else reject(error)
      },
    })
    call.onEnd((reason) => {
      isOver = true
      reject(reason)
    })
  })
}
