import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { MAX_TIMER_MS } from '../../wire/protocol.js'
import { serviceDefinition } from './definition.js'

/** What a status says again of a call's headers: longer than any path or encoding that there is. */
const ECHO_CHARACTERS = 256

/** The units of grpc-timeout, in milliseconds. */
const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 }

/** What grpc-js takes for the name and the value of metadata. */
const NAME = /^[0-9a-z_.-]+$/
const VALUE = /^[ -~]*$/

/** Headers whose value grpc-js says again in the status of a call that cannot be. */
const ECHOED = [':path', 'grpc-timeout', 'grpc-encoding'] as const

/**
 * Changes what a call's headers say where grpc-js would take harm from it, before it sees them:
 * - A long path, timeout or encoding stands again in `grpc-message`: near 64 KiB that hangs the connection. It is cut;
 *   none that is as long has a meaning.
 * - Metadata that it does not take it prints on standard error, all of it, for each call: it is left out.
 */
export function tame(headers: IncomingHttpHeaders): void {
  for (const name in headers) {
    if (name.startsWith(':') || name.endsWith('-bin')) continue
    const value = headers[name]
    const legal = typeof value === 'string' ? VALUE.test(value) : value?.every((part) => VALUE.test(part))
    if (!legal || !NAME.test(name)) delete headers[name]
  }
  for (const name of ECHOED) {
    const value = headers[name]
    if (typeof value !== 'string') continue
    if (value.length > ECHO_CHARACTERS) headers[name] = value.slice(0, ECHO_CHARACTERS)
    if (!VALUE.test(value)) headers[name] = String(headers[name]).replace(/[^ -~]/g, '?')
  }
}

const OURS: ReadonlySet<unknown> = new Set(Object.values(serviceDefinition).map(({ path }) => path))
const deadlines = new WeakMap<ServerHttp2Stream, number>()

/** When a call of ours has to end, in Unix milliseconds; Infinity for never. */
export const deadlineOf = (stream: ServerHttp2Stream): number => deadlines.get(stream) ?? Number.POSITIVE_INFINITY

/**
 * Keeps the time that a call has from grpc-js, where the call is one of ours: its own timer ends a stream in the middle of
 * what is being written, with the wrong status or with none. And a timeout of more than 24.8 days overflows that
 * timer: it is none. One that cannot be read is left for grpc-js to refuse.
 */
export function keepDeadline(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const timeout = headers['grpc-timeout']
  if (typeof timeout !== 'string') return
  const [, count, unit = ''] = /^(\d{1,8})\s*([HMSmun])$/.exec(timeout) ?? []
  const ms = Math.floor(Number(count) * (UNITS[unit] ?? Number.NaN))
  const isNone = ms > MAX_TIMER_MS
  if (isNone || (ms >= 0 && OURS.has(headers[':path']))) delete headers['grpc-timeout']
  if (!isNone && ms >= 0) deadlines.set(stream, Date.now() + ms)
}
