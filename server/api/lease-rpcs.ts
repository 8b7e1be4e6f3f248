import type { EnginePool } from '../../pool/engine.js'
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
import { Channel } from '../calls/channel.js'
import type { Call } from '../grpc/adapter.js'
import type { RpcContext } from './rpc-context.js'

/** OpenPool: the stream is the lease of an owned pool. When it ends, for any reason, the pool's workers are gone. */
export async function* openPool(
  { engine, admission }: RpcContext,
  request: OpenPoolRequest,
  call: Call,
): AsyncGenerator<OpenPoolResponse> {
  admission.check()
  const events = new Channel<OpenPoolResponse>()
  const pool = engine.open(
    {
      sharedPool: request.sharedPool,
      processes: request.processes,
      initializer: request.initializer,
      initargs: request.initargs,
      maxTasksPerChild: request.maxtasksperchild,
    },
    {
      worker: (event) => {
        if (event.kind !== 'exited') return
        const { pid, exitCode, signal } = event.exit
        events.push({ event: { $case: 'workerExited', value: { pid, exitCode, signal: signal ?? '' } } })
      },
      state: (state) => {
        if (state.kind === 'failed') events.end(state.failure)
      },
    },
  )
  call.onEnd(() => events.end())
  void pool.ended.then(() => events.end())
  try {
    yield { event: { $case: 'opened', value: { pool: pool.name, processes: pool.options.processes } } }
    yield* events
    yield { event: { $case: 'closed', value: {} } }
  } finally {
    await engine.release(pool)
  }
}

/** ClosePool. Like JoinPool and Terminate, it has nothing to do if the pool has ended, as in Python. */
export async function closePool(context: RpcContext, request: ClosePoolRequest): Promise<ClosePoolResponse> {
  if (!context.engine.hasEnded(request.pool)) endablePool(context, request.pool, 'close').close()
  return {}
}

export async function joinPool(
  { engine }: RpcContext,
  request: JoinPoolRequest,
  call: Call,
): Promise<JoinPoolResponse> {
  if (engine.hasEnded(request.pool)) return {}
  const pool = engine.pool(request.pool)
  if (pool.state.kind === 'open') {
    throw new Failure('POOL_NOT_CLOSED', `pool ${JSON.stringify(pool.name)} is open; close or terminate it before join`)
  }
  await Promise.race([pool.ended, new Promise<never>((_, reject) => call.onEnd(reject))])
  return {}
}

export async function terminate(context: RpcContext, request: TerminateRequest): Promise<TerminateResponse> {
  if (!context.engine.hasEnded(request.pool)) await endablePool(context, request.pool, 'terminate').terminate()
  return {}
}

/** The pool, if the caller may end it. A client that knows the name of an owned pool owns it; a shared pool belongs to all. */
function endablePool({ engine, allowTerminate }: RpcContext, name: string, verb: string): EnginePool {
  const pool = engine.pool(name)
  if (!engine.isShared(pool) || allowTerminate) return pool
  throw new Failure(
    'PERMISSION_DENIED',
    `a client may not ${verb} a shared pool; start the server with --allow-terminate to let it`,
  )
}
