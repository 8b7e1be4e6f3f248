import * as routing from '../../proto/gen/farpool/routing/v1/routing.js'
import * as api from '../../proto/gen/farpool/v1/pool_service.js'
import { decodePayload, encodePayload } from '../../wire/values/payload.js'

/** The right replies of a server. */

export const ANSWER = 'answer'

const answer = Buffer.from(encodePayload(ANSWER, 'cbor'))

/** The reply to a message of an RPC; undefined if the message needs none. */
export function reply(rpc: string, message: Buffer): Buffer | undefined {
  switch (rpc) {
    case 'Apply':
      return Buffer.from(routing.ApplyResponse.encode({ result: answer }).finish())
    case 'IMap':
      return imapReply(message)
    case 'Call':
      return callReply(message)
    case 'OpenPool':
      return Buffer.from(
        api.OpenPoolResponse.encode({ event: { $case: 'opened', value: { pool: 'pool', processes: 2 } } }).finish(),
      )
    case 'GetServerInfo':
      return Buffer.from(api.GetServerInfoResponse.encode(INFO).finish())
    case 'GetPool':
      return Buffer.from(api.GetPoolResponse.encode(POOL).finish())
    case 'ListFunctions':
      return Buffer.from(api.ListFunctionsResponse.encode({ functions: [FUNCTION] }).finish())
    default:
      return Buffer.alloc(0)
  }
}

/** True if the message resumes a session. */
export const isResumed = (rpc: string, message: Buffer): boolean =>
  rpc === 'Call' && routing.CallRequest.decode(message).session?.resumed === true

function imapReply(message: Buffer): Buffer {
  const { chunks } = routing.MapRequest.decode(message)
  const outcomes = chunks.map((chunk, at) => ({ chunk: at, payload: results(chunk), failures: [] }))
  return Buffer.from(routing.IMapResponse.encode({ outcomes }).finish())
}

function callReply(message: Buffer): Buffer | undefined {
  const { groups, session } = routing.CallRequest.decode(message)
  const calls = groups.flatMap((group) => group.calls)
  // The first message of a session gets a reply even without calls.
  if (calls.length === 0) return session ? Buffer.alloc(0) : undefined
  const outcomes = calls.map(({ id, chunk }) => ({ id, payload: chunk ? results(chunk) : answer, failures: [] }))
  return Buffer.from(routing.CallResponse.encode({ outcomes, received: 0, maxMessageBytes: 0 }).finish())
}

/** As many results as the chunk has items. */
function results(chunk: Uint8Array): Buffer {
  const { value } = decodePayload(chunk)
  return Buffer.from(encodePayload(Array.isArray(value) ? value.map(() => ANSWER) : [ANSWER], 'cbor'))
}

const INFO = {
  version: '1',
  runtime: 'none',
  processes: 2,
  maxMessageBytes: 1e6,
  graceMs: 0,
  runTimeoutMs: 0,
  maxQueued: 0,
  maxQueuedPerClient: 0,
  pools: ['default'],
}

const POOL: api.GetPoolResponse = {
  pool: 'default',
  shared: true,
  state: api.PoolState.POOL_STATE_OPEN,
  failure: undefined,
  processes: 2,
  workers: [{ pid: 1, state: api.WorkerState.WORKER_STATE_BUSY, tasks: 1, function: 'f' }],
  queued: 0,
  running: 1,
  tasks: { submitted: 2, succeeded: 1, failed: 0, cancelled: 0, retried: 0, timedOut: 0 },
  workersStarted: 2,
  queuedBytes: 0,
}

const FUNCTION = { name: 'f', parameters: 1, module: 'm', retries: 0, runTimeoutMs: 0, neverKilled: false }
