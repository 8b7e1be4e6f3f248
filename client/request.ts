import { MAX_TIMER_MS } from '../wire/limits.js'
import { type Encoding, encodeArgs, encodeKwargs, REPLY_KIND } from './encode.js'
import { badRequest, type CallOptions, checkCount, checkTimeout, deadlineOf } from './options.js'
import { boundOf, mergeKwargs } from './partial.js'
import type { FunctionCall } from './transport.js'
import type { Bound, Kwargs } from './typed.js'

/**
 * What every request that runs a function has, checked and encoded. The bound arguments of a partial stand before the
 * call's own. @throws BadRequestError, EncodingError
 */
export function functionCall(
  fn: string | Bound,
  options: CallOptions,
  encoding: Encoding,
  args: unknown = [],
  kwargs?: Kwargs,
): FunctionCall {
  checkCount('retries', options.retries, 0)
  checkTimeout(options.timeout)
  checkTimeout(options.queueTimeout, 'queueTimeout')
  checkTimeout(options.runTimeout, 'runTimeout')
  const bound = boundOf(fn)
  if (typeof bound?.name !== 'string') throw badRequest(`the function is ${String(fn)}; it must be a name or a partial`)
  if (!Array.isArray(args)) throw badRequest(`args is a ${typeof args}; it must be an array of arguments`)
  return {
    pool: '',
    function: bound.name,
    args: encodeArgs([...bound.args, ...args], encoding),
    kwargs: encodeKwargs(mergeKwargs(bound.kwargs, kwargs), encoding),
    replyKind: REPLY_KIND[encoding],
    retries: options.retries ?? 0,
    deadline: deadlineOf(options.timeout),
    queueTimeoutMs: wholeMs(options.queueTimeout),
    runTimeoutMs: wholeMs(options.runTimeout),
  }
}

/** 0 is for any time on the wire; what a timer cannot hold is any time too. */
const wholeMs = (timeout: number | undefined): number =>
  timeout === undefined || timeout > MAX_TIMER_MS ? 0 : Math.max(1, Math.ceil(timeout))

/** @throws BadRequestError where the input of a map is not iterable; that of an imap may be asynchronous. */
export function checkInput(input: unknown, also?: 'async'): void {
  const object = Object(input)
  if (typeof object[Symbol.iterator] === 'function') return
  if (also === 'async' && typeof object[Symbol.asyncIterator] === 'function') return
  throw badRequest(`the input is ${input === null ? 'null' : `a ${typeof input}`}; it must be iterable`)
}
