import type { EnginePool } from '../../pool/engine.js'
import type { FunctionTable } from '../../pool/function-table.js'
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
import type { Principal } from '../auth/identity.js'
import { callable, mayInitialize, notAllowed } from '../auth/rules.js'
import { Channel } from '../calls/channel.js'
import type { Call } from '../grpc/adapter.js'
import type { RpcContext } from './rpc-context.js'

/** OpenPool: the stream is the lease of an owned pool. When it ends, for any reason, the pool's workers are gone. */
export async function* openPool(
  context: RpcContext,
  request: OpenPoolRequest,
  call: Call,
): AsyncGenerator<OpenPoolResponse> {
  const { engine, admission } = context
  const { principal } = call.caller
  admission.check()
  const { functions, options } = engine.pool(request.sharedPool, principal)
  checkInitializer(functions, request.initializer, principal)
  principal.checkPool(request.processes ?? options.processes)
  const events = new Channel<OpenPoolResponse>()
  const pool = engine.open(
    {
      sharedPool: request.sharedPool,
      processes: request.processes,
      initializer: request.initializer,
      initargs: request.initargs,
      maxTasksPerChild: request.maxtasksperchild,
    },
    principal,
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
  principal.pools.add(pool)
  call.onEnd(() => events.end())
  void pool.ended.then(() => events.end())
  try {
    yield { event: { $case: 'opened', value: { pool: pool.name, processes: pool.options.processes } } }
    yield* events
    yield { event: { $case: 'closed', value: {} } }
  } finally {
    await engine.release(pool)
    principal.pools.delete(pool)
  }
}

/** @param name empty for no initializer. @throws Failure PERMISSION_DENIED, FUNCTION_NOT_FOUND. */
function checkInitializer(functions: FunctionTable, name: string, { rules }: Principal): void {
  if (name === '') return
  if (!mayInitialize(name, rules, functions)) throw notAllowed(name)
  if (!functions.byName.has(name)) throw callable(functions, rules).unknown(name)
}

/** ClosePool. Like JoinPool and Terminate, it has nothing to do if the pool has ended, as in Python. */
export async function closePool(
  context: RpcContext,
  { pool }: ClosePoolRequest,
  { caller: { principal } }: Call,
): Promise<ClosePoolResponse> {
  if (!context.engine.hasEnded(pool, principal)) endablePool(context, pool, principal, 'close').close()
  return {}
}

export async function joinPool(
  { engine }: RpcContext,
  request: JoinPoolRequest,
  call: Call,
): Promise<JoinPoolResponse> {
  const { principal } = call.caller
  if (engine.hasEnded(request.pool, principal)) return {}
  const pool = engine.pool(request.pool, principal)
  if (pool.state.kind === 'open') {
    throw new Failure('POOL_NOT_CLOSED', `pool ${JSON.stringify(pool.name)} is open; close or terminate it before join`)
  }
  await Promise.race([pool.ended, new Promise<never>((_, reject) => call.onEnd(reject))])
  return {}
}

export async function terminate(
  context: RpcContext,
  { pool }: TerminateRequest,
  { caller: { principal } }: Call,
): Promise<TerminateResponse> {
  if (!context.engine.hasEnded(pool, principal)) await endablePool(context, pool, principal, 'terminate').terminate()
  return {}
}

/** The pool, if the caller may end it: its own, or a shared one where that is allowed. */
function endablePool(
  { engine, allowTerminate }: RpcContext,
  name: string,
  principal: Principal,
  verb: string,
): EnginePool {
  const pool = engine.pool(name, principal)
  if (!engine.isShared(pool) || (principal.rules.terminate ?? allowTerminate)) return pool
  throw new Failure(
    'PERMISSION_DENIED',
    `a client may not ${verb} a shared pool; --allow-terminate, or "terminate: true" in an entry of --tokens, lets it`,
  )
}
