// The functions of the tests: each does one thing that a test needs to see.
import { spawn } from 'node:child_process'
import { appendFileSync, existsSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { configure, currentTask } from 'farpool/worker'

export const identity = (value) => value
export const add = (a, b = 0) => a + b
export const square = (x) => x * x
export const power = (base, exponent) => base ** exponent
export const pid = () => process.pid
export const collect = (...args) => args

/** Takes arguments and one last object of keyword arguments. */
export const greet = (name, { greeting = 'Hello', mark = '!' } = {}) => `${greeting}, ${name}${mark}`

export const notThirteen = (x) => {
  if (x === 13) throw new RangeError(`${x} is unlucky`, { cause: new Error('superstition') })
  return x
}

/** Throws whatever the test wants to see thrown. */
export const throwIt = (what) => {
  switch (what) {
    case 'string':
      throw 'a string'
    case 'null':
      throw null
    case 'undefined':
      throw undefined
    case 'cause':
      throw new TypeError('outer', { cause: new Error('middle', { cause: new RangeError('inner') }) })
    case 'large':
      throw new Error('x'.repeat(1_000_000))
    case 'surrogate':
      throw new Error('lone \ud800 surrogate')
    case 'code':
      throw Object.assign(new Error('no such thing'), { code: 5 })
    case 'unavailable':
      throw Object.assign(new Error('a backend is away'), { code: 14 })
    case 'hostile':
      throw new Proxy(new Error('x'), {
        get: () => {
          throw new Error('trap')
        },
        getPrototypeOf: () => {
          throw new Error('trap')
        },
      })
    default:
      return what
  }
}

/** What became of a value that may not be what it seems. */
export const lookAt = (value) => ({
  prototypeIsPlain: [Object.prototype, null].includes(Object.getPrototypeOf(value)),
  polluted: value.polluted === true,
  others: {}.polluted === true || Object.polluted === true,
  x: value.x,
})

/** Throws an error with this message. */
export const throwText = (text) => {
  throw new Error(text)
}

/** Returns what cannot be sent, or can just so. */
export const giveBack = (what) => {
  switch (what) {
    case 'function':
      return () => 1
    case 'symbol':
      return Symbol('s')
    case 'cycle': {
      const cycle = {}
      cycle.self = cycle
      return cycle
    }
    case 'rejected':
      return Promise.reject(new Error('rejected'))
    case '10MB':
      return new Uint8Array(10_000_000).fill(7)
    case 'undefined':
      return undefined
    case 'NaN':
      return Number.NaN
    default:
      return what
  }
}

export const oddFunction = (x) => (x % 2 === 0 ? x : () => x)

export const exit = (code) => process.exit(code)
export const killSelf = () => process.kill(process.pid, 'SIGKILL')
export const spin = () => {
  for (;;);
}
export const never = () => new Promise(() => {})

export const print = (text) => {
  console.log(text)
  console.error(`${text} (stderr)`)
  return text.length
}
export const printMuch = (bytes) => {
  console.log(
    'x'
      .repeat(99)
      .concat('\n')
      .repeat(Math.ceil(bytes / 100)),
  )
  return bytes
}

/** Tells the test, through a file, that it has begun; then waits until it is aborted and tells that too. */
export const untilAborted = async (file) => {
  const { signal } = currentTask()
  appendFileSync(file, 'begun\n')
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  appendFileSync(file, `aborted: ${signal.reason.message}\n`)
  return 'late'
}

/** Tells that it has begun, and waits until the other file is there. */
export const waitFor = async (begun, file, result) => {
  appendFileSync(begun, `${process.pid}\n`)
  while (!existsSync(file)) await sleep(5)
  return result
}

/** Fails, or waits for a file that never comes. */
export const failOrWait = async (what) => {
  if (what === 'fail') throw new Error('failed first')
  while (!existsSync(what) && !currentTask().signal.aborted) await sleep(5)
}

/** Crashes in its first tries. */
export const crashUntilAttempt = (attempt) => {
  if (currentTask().attempt < attempt) process.exit(9)
  return currentTask().attempt
}

export const appendLine = (file, text) => {
  appendFileSync(file, `${text}\n`)
  return text
}

/** Kills its process unless the file is there, which it makes: a worker dies once. */
export const crashOnce = (file) => {
  if (existsSync(file)) return 'survived'
  appendFileSync(file, 'x')
  process.exit(1)
}

// For initializers.
let initialized
export const initialize = (...args) => {
  initialized = args
}
export const initializedWith = () => initialized ?? null
export const failToInitialize = () => {
  throw new Error('no licence')
}
export const logInitialization = (file) => appendFileSync(file, `${process.pid}\n`)
export const hangWhileInitializing = (file) => {
  appendFileSync(file, String(process.pid))
  for (;;);
}

/** Busy until the file is there, without ever coming back to the event loop. */
export const busyUntil = (file, result) => {
  while (!existsSync(file));
  return result
}

/** Leaves a line, then dies if that says so. */
export const appendOrDie = (file, text) => {
  appendFileSync(file, `${text}\n`)
  if (text === 'die') process.kill(process.pid, 'SIGKILL')
  return text
}

/** Busy for so many milliseconds. */
export const busyFor = (ms) => {
  for (const end = performance.now() + ms; performance.now() < end; );
  return ms
}

/** Leaves a line and is busy for a moment, where there is a file. */
export const slowWith = (file) => {
  if (file === '') return
  appendFileSync(file, 'x\n')
  busyFor(20)
}

export const bytesOf = (length) => new Uint8Array(length)
export const textOf = (length) => 'x'.repeat(length)

// What a module says about its functions.
export const twiceRetried = configure((attempt) => crashUntilAttempt(attempt), { retries: 2 })
export const atMost100ms = configure(spin, { runTimeout: 100 })
/** Works on when its call was cancelled, and leaves a line when it ends. */
export const neverKilled = configure(
  (file, ms) => {
    busyFor(ms)
    appendFileSync(file, `${process.pid}\n`)
  },
  { kill: 'never' },
)

export const abort = () => process.abort()

/** Takes all the heap there is. */
export const fillHeap = () => {
  const hoard = []
  for (;;) hoard.push({ number: Math.random(), list: [1, 2, 3] })
}

/** Leaves a process behind, whose number it gives; dies if it shall. */
export const leaveChild = (file, dies) => {
  const { pid } = spawn('sleep', ['600'], { stdio: 'ignore' })
  appendFileSync(file, String(pid))
  if (dies) process.exit(6)
  return pid
}

const kept = []
/** Keeps so many MiB for ever. */
export const leak = (mib) => {
  kept.push(Buffer.alloc(mib * 1024 * 1024, 1))
  return process.pid
}

/** Takes all the memory there is, outside of the heap, once the file is there. */
export const eatMemory = (file) => {
  while (file !== undefined && !existsSync(file));
  for (;;) leak(8)
}

/** Takes it in its first tries. */
export const eatUntilAttempt = (attempt) => {
  if (currentTask().attempt < attempt) eatMemory()
  return currentTask().attempt
}

/** Runs an item for a moment; dies at one. */
export const dieAt = (fatal) => {
  busyFor(20)
  if (fatal) process.kill(process.pid, 'SIGKILL')
}

/** Its worker has told what became of it, and exits before it hears of anything more: between two tasks. */
export const exitNext = (value) => {
  setImmediate(() => process.exit(3))
  return value
}

/** Its worker is stopped while it starts, where the file is there; the next one finds it gone. */
export const stopOnce = (file) => {
  if (!existsSync(file)) return
  rmSync(file)
  process.kill(process.pid, 'SIGSTOP')
}

/** Leaves a line and dies; no other worker can start with the initializer refuseWhile. */
export const dieAndBlock = (file, block) => {
  appendFileSync(file, 'run\n')
  appendFileSync(block, '')
  process.exit(5)
}

/** Throws as long as the file is there. */
export const throwWhile = (file) => {
  if (existsSync(file)) throw new Error('the database is away')
}

/** Throws where the file is there; the next one finds it gone. */
export const throwOnce = (file) => {
  if (!existsSync(file)) return
  rmSync(file)
  throw new Error('the database is away')
}

/** Its worker cannot start as long as the file is there. */
export const refuseWhile = (file) => {
  if (existsSync(file)) process.exit(4)
}
