import type { IncomingHttpHeaders } from 'node:http2'
import { ECHO_CHARACTERS, MAX_TIMER_MS } from '../../wire/limits.js'

/** The units of grpc-timeout, in milliseconds. */
const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 }

/** What grpc-js takes for the name and the value of metadata. */
const NAME = /^[0-9a-z_.-]+$/
const VALUE = /^[ -~]*$/

/** Headers whose value grpc-js says again in the status of a call that cannot be. */
const ECHOED = [':path', 'grpc-timeout', 'grpc-encoding'] as const

/**
 * Changes what a call's headers say where grpc-js would take harm from it, before it sees them:
 * - A timeout of more than 24.8 days overflows its timer, and the call fails at once: it is none.
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
  const timeout = headers['grpc-timeout']
  if (typeof timeout !== 'string') return
  const [, count, unit = ''] = /^(\d{1,8})\s*([HMSmun])/.exec(timeout) ?? []
  if (Number(count) * (UNITS[unit] ?? 0) > MAX_TIMER_MS) delete headers['grpc-timeout']
}
