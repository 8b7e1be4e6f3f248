import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { MAX_TIMER_MS } from '../../wire/protocol.js'
import { RPC_METHODS } from '../../wire/rpc-methods.js'

/** The units of grpc-timeout, in milliseconds. */
const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 }

/** Names and values of metadata that grpc-js accepts. */
const NAME = /^[0-9a-z_.-]+$/
const VALUE = /^[ -~]*$/

/** Headers whose value grpc-js repeats in the status of a call that it refuses, and the most that it may repeat. */
const ECHOED = [':path', 'grpc-timeout', 'grpc-encoding'] as const
const ECHO_CHARACTERS = 256

/**
 * Changes headers that would harm grpc-js, before it sees them:
 * - grpc-js repeats a long path, timeout or encoding in `grpc-message`. Near 64 KiB that hangs the connection, so the
 *   value is cut; none that is as long has a meaning.
 * - grpc-js prints metadata that it does not accept on standard error, for each call, so it is left out.
 */
export function sanitize(headers: IncomingHttpHeaders): void {
  for (const name in headers) {
    if (name.startsWith(':') || name.endsWith('-bin')) continue
    const value = headers[name]
    const isLegal = typeof value === 'string' ? VALUE.test(value) : value?.every((part) => VALUE.test(part))
    if (!isLegal || !NAME.test(name)) delete headers[name]
  }
  for (const name of ECHOED) {
    const value = headers[name]
    if (typeof value !== 'string') continue
    if (value.length > ECHO_CHARACTERS) headers[name] = value.slice(0, ECHO_CHARACTERS)
    if (!VALUE.test(value)) headers[name] = String(headers[name]).replace(/[^ -~]/g, '?')
  }
}

const OUR_PATHS: ReadonlySet<unknown> = new Set(Object.values(RPC_METHODS).map(({ path }) => path))
const deadlines = new WeakMap<ServerHttp2Stream, number>()

/** The deadline of a call of our service, in Unix milliseconds; Infinity for none. */
export const deadlineOf = (stream: ServerHttp2Stream): number => deadlines.get(stream) ?? Number.POSITIVE_INFINITY

/**
 * Takes the timeout of a call of our service out of the headers and remembers it for `deadlineOf`. grpc-js's own timer
 * ends a stream in the middle of a message, with a wrong status or none. It also overflows at 24.8 days and then fires
 * at once; such a timeout counts as none. A timeout that cannot be read is left for grpc-js to refuse.
 */
export function keepDeadline(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const timeout = headers['grpc-timeout']
  if (typeof timeout !== 'string') return
  const [, count, unit = ''] = /^(\d{1,8})\s*([HMSmun])$/.exec(timeout) ?? []
  const ms = Math.floor(Number(count) * (UNITS[unit] ?? Number.NaN))
  const isNone = ms > MAX_TIMER_MS
  if (isNone || (ms >= 0 && OUR_PATHS.has(headers[':path']))) delete headers['grpc-timeout']
  if (!isNone && ms >= 0) deadlines.set(stream, Date.now() + ms)
}
