import * as routing from '../../proto/gen/farpool/routing/v1/routing.js'
import * as api from '../../proto/gen/farpool/v1/pool_service.js'
import * as worker from '../../proto/gen/farpool/worker/v1/worker.js'
import type { Random } from '../chaos/random.js'
import { chunk, object, payload } from './values.js'

/** Valid requests of every RPC. Every mutation starts from one of them. */

export const RPCS = [
  'Apply',
  'Map',
  'IMap',
  'Call',
  'OpenPool',
  'ClosePool',
  'JoinPool',
  'Terminate',
  'GetPool',
  'GetServerInfo',
  'ListFunctions',
] as const
export type Rpc = (typeof RPCS)[number]

/** A placeholder, as long as the real name, for the name of the pool that victim-pool.ts opens. */
export const POOL = `pool-${'0'.repeat(36)}`

const poolOf = (random: Random): string => random.weighted({ '': 6, default: 2, [POOL]: 2, none: 1 })
const functionOf = (random: Random): string =>
  random.weighted({ identity: 6, add: 4, collect: 4, fail: 2, nap: 2, toString: 1, none: 1 })
const many = <T>(random: Random, most: number, make: (random: Random) => T): T[] =>
  Array.from({ length: random.between(0, most) }, () => make(random))
const seldom = <T>(random: Random, make: (random: Random) => T): T | undefined =>
  random.chance(0.2) ? make(random) : undefined

const common = (random: Random) => ({
  pool: poolOf(random),
  function: functionOf(random),
  kwargs: seldom(random, object),
  replyKind: random.chance(0.7) ? 0 : random.between(0, 3),
  retries: random.chance(0.8) ? 0 : random.between(0, 3),
  queueTimeoutMs: random.chance(0.9) ? 0 : random.between(1, 5_000),
  runTimeoutMs: random.chance(0.9) ? 0 : random.between(1, 5_000),
})

const applyRequest = (random: Random) =>
  routing.ApplyRequest.encode({
    ...common(random),
    args: many(random, 3, payload),
    requestId: random.chance(0.8) ? '' : `request ${random.between(0, 20)}`,
  })

const mapRequest = (random: Random) =>
  routing.MapRequest.encode({
    ...common(random),
    chunks: many(random, 4, chunk),
    spread: random.chance(0.2),
    args: random.chance(0.8) ? [] : [payload(random)],
    onError: random.between(0, 2),
    ordered: random.chance(0.5),
    requestId: random.chance(0.8) ? '' : `request ${random.between(0, 20)}`,
    allowPartial: random.chance(0.5),
  })

/** A message of a stream of calls. Its calls have the ids `firstId`, `firstId` + 1, … */
export function callRequest(random: Random, firstId: number, more: Partial<routing.CallRequest> = {}): Buffer {
  let id = firstId
  const group = () => ({
    ...common(random),
    args: random.chance(0.8) ? [] : [payload(random)],
    spread: random.chance(0.1),
    onError: random.between(0, 2),
    timeoutMs: random.chance(0.8) ? 0 : random.between(1, 3_000),
    allowPartial: random.chance(0.5),
    calls: many(random, 4, () => ({
      id: id++,
      args: random.chance(0.7) ? many(random, 2, payload) : [],
      chunk: random.chance(0.3) ? chunk(random) : undefined,
    })),
  })
  const request = {
    groups: many(random, 2, group),
    cancelled: random.chance(0.8) ? [] : [firstId],
    session: undefined,
    received: 0,
    abandon: random.chance(0.05),
    last: random.chance(0.1),
    ...more,
  }
  return Buffer.from(routing.CallRequest.encode(request).finish())
}

const openPoolRequest = (random: Random) =>
  routing.OpenPoolRequest.encode({
    sharedPool: random.chance(0.9) ? '' : poolOf(random),
    processes: random.chance(0.5) ? 1 : random.between(-1, 3),
    initializer: random.chance(0.6) ? '' : functionOf(random),
    initargs: random.chance(0.7) ? [] : [payload(random)],
    maxtasksperchild: random.chance(0.7) ? undefined : random.between(0, 3),
  })

/** A valid, encoded request of an RPC. */
export function request(rpc: Rpc, random: Random): Buffer {
  const pool = { pool: poolOf(random) }
  switch (rpc) {
    case 'Apply':
      return Buffer.from(applyRequest(random).finish())
    case 'Map':
    case 'IMap':
      return Buffer.from(mapRequest(random).finish())
    case 'Call':
      return callRequest(random, random.between(1, 5))
    case 'OpenPool':
      return Buffer.from(openPoolRequest(random).finish())
    case 'ClosePool':
    case 'JoinPool':
    case 'Terminate':
    case 'GetPool':
    case 'GetServerInfo':
    case 'ListFunctions':
      return Buffer.from(api.GetPoolRequest.encode(pool).finish())
  }
}

/** Other messages, whose fields a mutation may insert. */
export const foreignTo = (random: Random): Buffer[] => [
  request(random.pick(RPCS), random),
  Buffer.from(worker.Task.encode({ task: 7, attempt: 1, args: [payload(random)], chunk: undefined }).finish()),
]
