// What the tests call. Where a test has to know that a function has begun, or to let it go on, they meet in a file.
import { appendFileSync, existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { currentTask } from 'farpool/worker'

export const echo = (value) => value
export const add = (a, b) => a + b
export const power = (base, exponent) => base ** exponent
export const collect = (...args) => args
export const greet = (name, { greeting = 'Hello', mark = '!' } = {}) => `${greeting}, ${name}${mark}`
export const later = async (value) => {
  await sleep(1)
  return value
}
export const pid = () => process.pid
export const attempt = () => currentTask().attempt

export const reversed = (bytes) => Uint8Array.from(bytes).reverse()
export const byteCount = (bytes) => bytes.length
export const bytesUpTo = (count) => Uint8Array.from({ length: count }, (_, at) => at % 256)
export const textOf = (length) => 'x'.repeat(length)

/** What it was, as JavaScript sees it: to tell 1n from 1, and bytes from an array. */
export const kindOf = (value) =>
  value === null ? 'null' : typeof value === 'object' ? value.constructor.name : typeof value

const line = (file, text) => appendFileSync(file, `${text}\n`)

/** Resolves when the caller has given up. */
const aborted = (signal) =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', resolve, { once: true })
  })

/** Does what the test asks for, in this order: leaves its pid in a file, waits for a file, ends as it is told. */
export const act = async ({ mark, wait, fail, exit, size, value = size ? textOf(size) : null }) => {
  if (mark) line(mark, process.pid)
  if (wait) {
    const { signal } = currentTask()
    while (!existsSync(wait)) await sleep(2, undefined, { signal })
  }
  if (exit !== undefined) process.exit(exit)
  if (fail) throw new Error(fail)
  return value
}

/** Begins, waits until the caller gives up, and says why in the second file. */
export const untilAborted = async (begun, ended) => {
  const { signal } = currentTask()
  line(begun, process.pid)
  await aborted(signal)
  line(ended, signal.reason.message)
}

/** Begins and never ends; nothing but the end of the process stops it. */
export const spin = (begun) => {
  if (begun) line(begun, process.pid)
  for (;;);
}

export const crash = (code) => process.exit(code)
export const killSelf = () => process.kill(process.pid, 'SIGKILL')
export const crashBefore = (attempt) => {
  if (currentTask().attempt < attempt) process.exit(9)
  return currentTask().attempt
}

// What functions throw.

class HttpError extends Error {
  status = 503
  code = 'ECONNREFUSED'
}

export const refuse = () => {
  throw new HttpError('no backend')
}

export const boom = () => {
  throw new TypeError('outer', { cause: new RangeError('middle', { cause: new Error('inner') }) })
}
export const unlucky = (x) => {
  if (x === 13) throw new RangeError(`${x} is unlucky`)
  return x
}
export const throwString = (text) => {
  throw text
}
export const throwNull = () => {
  throw null
}
export const throwCode = (code) => {
  throw Object.assign(new Error('a code of its own'), { code })
}
export const throwLong = (part, times) => {
  throw new Error(part.repeat(times))
}
export const throwLongName = (length) => {
  throw Object.assign(new Error('short'), { name: 'N'.repeat(length) })
}
export const throwLoneSurrogate = () => {
  throw new Error('before \ud800 after')
}
export const throwDeep = (depth, length) => {
  let error = new Error('the first cause'.padEnd(length, '.'))
  for (let level = 1; level < depth; level++) error = new Error(`level ${level}`.padEnd(length, '.'), { cause: error })
  throw error
}
export const throwItsOwnCause = () => {
  const error = new Error('round and round')
  error.cause = error
  throw error
}

// What cannot be sent.

export const giveFunction = () => () => 1
export const giveSymbol = () => Symbol('s')
export const giveNaN = () => Number.NaN
export const giveInfinity = () => Number.NEGATIVE_INFINITY
export const giveCycle = () => {
  const cycle = {}
  cycle.self = cycle
  return cycle
}
export const functionFor = (x, odd) => (x === odd ? () => x : x)

// Initializers, and what they leave behind.

let initialized
export const initialize = (...args) => {
  initialized = { args, pid: process.pid, times: (initialized?.times ?? 0) + 1 }
}
export const initializedWith = () => initialized ?? null
export const failToInitialize = () => {
  throw new RangeError('no licence')
}
