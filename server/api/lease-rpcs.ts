import type { Pool } from '../../pool/pool.js'
import type { OpenPoolRequest } from '../../proto/gen/farpool/routing/v1/routing.js'
import type {
  ClosePoolRequest,
  ClosePoolResponse,
  JoinPoolRequest,
  JoinPoolResponse,
  OpenPoolResponse,
  TerminateRequest,
  TerminateResponse,
} from '../../proto/gen/farpool/v1/pool_service.js'
import { Failure } from '../../wire/failure.js'
import type { Call } from '../grpc/adapter.js'
import { Channel } from './channel.js'
import type { RpcContext } from './rpc-context.js'

/** OpenPool: the stream is the lease. When it ends, for whatever reason, the pool's processes are gone. */
export async function* openPool(
  { pools, admission }: RpcContext,
  request: OpenPoolRequest,
  call: Call,
): AsyncGenerator<OpenPoolResponse> {
  admission.check()
  const events = new Channel<OpenPoolResponse>()
  const pool = pools.open(
    {
      processes: request.processes,
      initializer: request.initializer,
      initargs: request.initargs,
      maxTasksPerChild: request.maxtasksperchild,
    },
    call.client,
    {
      workerExited: ({ pid, exitCode, signal }) =>
        events.push({ event: { $case: 'workerExited', value: { pid, exitCode, signal: signal ?? '' } } }),
      failed: (failure) => events.end(failure),
    },
  )
  call.onEnd(() => events.end())
  void pool.ended.then(() => events.end())
  try {
    yield { event: { $case: 'opened', value: { pool: pool.name, processes: pool.options.processes } } }
    yield* events
    yield { event: { $case: 'closed', value: {} } }
  } finally {
    await pools.remove(pool)
  }
}

/** ClosePool. On a pool that has ended, this and the two below have nothing to do, as in Python. */
export async function closePool(context: RpcContext, request: ClosePoolRequest): Promise<ClosePoolResponse> {
  if (!context.pools.hasEnded(request.pool)) own(context, request.pool, 'close').close()
  return {}
}

/** JoinPool */
export async function joinPool({ pools }: RpcContext, request: JoinPoolRequest, call: Call): Promise<JoinPoolResponse> {
  if (pools.hasEnded(request.pool)) return {}
  const pool = pools.get(request.pool)
  if (pool.state.kind === 'open') {
    throw new Failure('POOL_NOT_CLOSED', `pool ${JSON.stringify(pool.name)} is open; close or terminate it before join`)
  }
  await Promise.race([pool.ended, new Promise<never>((_, reject) => call.onEnd(reject))])
  return {}
}

/** Terminate */
export async function terminate(context: RpcContext, request: TerminateRequest): Promise<TerminateResponse> {
  if (!context.pools.hasEnded(request.pool)) await own(context, request.pool, 'terminate').terminate()
  return {}
}

/** The pool, if the caller may end it: who knows the name of an owned pool owns it; a shared one belongs to all. */
function own({ pools, allowTerminate }: RpcContext, name: string, verb: string): Pool {
  const pool = pools.get(name)
  if (!pools.isShared(pool) || allowTerminate) return pool
  throw new Failure(
    'PERMISSION_DENIED',
    `a client may not ${verb} the shared pool; start the server with --allow-terminate to let it`,
  )
}
