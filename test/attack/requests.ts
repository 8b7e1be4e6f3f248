import { ApplyRequest, ApplyResponse, MapRequest } from '../../proto/gen/farpool/v1/pool_service.js'
import { message } from '../support/raw-call.js'
import type { RawAnswer } from '../support/raw-unary.js'
import { json, request } from '../support/stub.js'

/** Encoded requests, as a client of generated stubs sends them. */

export const APPLY = '/farpool.v1.PoolService/Apply'
export const CALL = '/farpool.v1.PoolService/Call'
export const IMAP = '/farpool.v1.PoolService/IMap'

export const applyRequest = (name: string, ...args: unknown[]): Uint8Array =>
  ApplyRequest.encode(request(name, ...args)).finish()

/** A Map or IMap with this number of chunks of one item. */
export function mapMessage(name: string, chunks: number, item: unknown): MapRequest {
  return {
    pool: '',
    function: name,
    chunks: Array.from({ length: chunks }, () => json([item])),
    spread: false,
    args: [],
    kwargs: undefined,
    replyKind: 0,
    retries: 0,
    onError: 0,
    queueTimeoutMs: 0,
    runTimeoutMs: 0,
    requestId: '',
  }
}

export const mapRequest = (name: string, chunks: number, item: unknown): Uint8Array =>
  MapRequest.encode(mapMessage(name, chunks, item)).finish()

/** This number of calls of one function without arguments. */
export function callRequest(name: string, calls: number): Uint8Array {
  return message(name, Object.fromEntries(Array.from({ length: calls }, (_, i) => [i + 1, []])))
}

/** The JSON result of an Apply. */
export const resultOf = ({ body }: RawAnswer): unknown =>
  JSON.parse(String(ApplyResponse.decode(body.subarray(5)).result?.kind?.value))
