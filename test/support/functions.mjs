// The functions that most tests call.
import { spawn } from 'node:child_process'
import { appendFileSync, existsSync, readFileSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { configure, currentTask } from 'farpool/worker'

export const identity = (value) => value
export const add = (a, b = 0) => a + b
export const square = (x) => x * x
export const power = (base, exponent) => base ** exponent
export const pid = () => process.pid
export const collect = (...args) => args

/** Takes one argument, and keyword arguments as the last object. */
export const greet = (name, { greeting = 'Hello', mark = '!' } = {}) => `${greeting}, ${name}${mark}`

export const notThirteen = (x) => {
  if (x === 13) throw new RangeError(`${x} is unlucky`, { cause: new Error('superstition') })
  return x
}

/** Throws the named value. */
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

/** Checks a received value, and other objects, for changed prototypes. */
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

/** Returns the named value: most of them cannot be sent. */
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
export const printError = (text) => {
  console.error(text)
}
export const printLines = (count, line) => {
  for (let i = 0; i < count; i++) console.log(line)
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

/** Writes to the file when it has begun, waits for its AbortSignal, and writes the reason. */
export const untilAborted = async (file) => {
  const { signal } = currentTask()
  appendFileSync(file, 'begun\n')
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  appendFileSync(file, `aborted: ${signal.reason.message}\n`)
  return 'late'
}

/** Writes its process id to a file when it has begun, and waits until the other file exists. */
export const waitFor = async (begun, file, result) => {
  appendFileSync(begun, `${process.pid}\n`)
  while (!existsSync(file)) await sleep(5)
  return result
}

/** Fails, or waits for a file or for its AbortSignal. */
export const failOrWait = async (what) => {
  if (what === 'fail') throw new Error('failed first')
  while (!existsSync(what) && !currentTask().signal.aborted) await sleep(5)
}

/** Crashes in all attempts before this one. */
export const crashUntilAttempt = (attempt) => {
  if (currentTask().attempt < attempt) process.exit(9)
  return currentTask().attempt
}

export const appendLine = (file, text) => {
  appendFileSync(file, `${text}\n`)
  return text
}

/** Makes the file and exits, unless the file exists: only the first worker dies. */
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

/** Blocks the event loop until the file exists. */
export const busyUntil = (file, result) => {
  while (!existsSync(file));
  return result
}

/** Appends a line to the file, then dies if the line is `die`. */
export const appendOrDie = (file, text) => {
  appendFileSync(file, `${text}\n`)
  if (text === 'die') process.kill(process.pid, 'SIGKILL')
  return text
}

/** Blocks the event loop for this number of milliseconds. */
export const busyFor = (ms) => {
  for (const end = performance.now() + ms; performance.now() < end; );
  return ms
}

/** Appends a line and blocks for 20 ms, unless the file name is empty. */
export const slowWith = (file) => {
  if (file === '') return
  appendFileSync(file, 'x\n')
  busyFor(20)
}

export const bytesOf = (length) => new Uint8Array(length)
export const textOf = (length) => 'x'.repeat(length)
export const lengthOf = (text) => text.length
/** Many small values: their size is known only when they are encoded. */
export const dates = (count) => Array.from({ length: count }, (_, at) => new Date(at))
export const appendAndFill = (file, length) => {
  appendFileSync(file, '\n')
  return textOf(length)
}

/** Values of about this many bytes, most of which no look at the value itself can find. */
const OF_SIZE = {
  text: (bytes) => '€'.repeat(bytes / 3),
  numbers: (bytes) => Array.from({ length: bytes / 9 }, (_, at) => at + 0.5),
  map: (bytes) => new Map([[{ key: 1 }, new Set([textOf(bytes)])]]),
  deep: (bytes) => ({ a: [{ b: [{ c: [textOf(bytes)] }] }] }),
  instance: (bytes) =>
    new (class Page {
      text = textOf(bytes)
    })(),
  toJSON: (bytes) => ({ toJSON: () => textOf(bytes) }),
}
/** Appends a line to the file, and returns such a value. */
export const appendAndReturn = (file, kind, bytes) => {
  appendFileSync(file, '\n')
  return OF_SIZE[kind](bytes)
}

/** Appends a line to the file, and throws until it has so many lines; for ever if no number is given. */
export const appendAndThrow = (file, lines = Number.POSITIVE_INFINITY) => {
  appendFileSync(file, '\n')
  if (readFileSync(file, 'utf8').length < lines) throw new RangeError('not yet')
  return lines
}
/** Does so, and returns a text of this length. */
export const throwThenFill = (file, lines, length) => {
  appendAndThrow(file, lines)
  return textOf(length)
}
/** The first call makes the file and never ends; the next ones return the process id. */
export const pidAfter = (file) => {
  if (existsSync(file)) return process.pid
  appendFileSync(file, '')
  return never()
}
export const throwOdd = (x) => {
  if (x % 2 === 1) throw new RangeError(`${x} is odd`)
  return x
}
export const neverOdd = (x) => (x % 2 === 1 ? never() : x)

// Functions with options in their module.
export const twiceRetried = configure((attempt) => crashUntilAttempt(attempt), { retries: 2 })
export const atMost100ms = configure(spin, { runTimeout: 100 })
/** Goes on after its call was cancelled, and writes its process id when it ends. */
export const neverKilled = configure(
  (file, ms) => {
    busyFor(ms)
    appendFileSync(file, `${process.pid}\n`)
  },
  { kill: 'never' },
)

export const abort = () => process.abort()

/** Fills the heap until the process dies. */
export const fillHeap = () => {
  const hoard = []
  for (;;) hoard.push({ number: Math.random(), list: [1, 2, 3] })
}

/** Starts a process and writes its id to the file; then exits if `dies`. */
export const leaveChild = (file, dies) => {
  const { pid } = spawn('sleep', ['600'], { stdio: 'ignore' })
  appendFileSync(file, String(pid))
  if (dies) process.exit(6)
  return pid
}

const kept = []
/** Allocates this number of MiB and never frees them. */
export const leak = (mib) => {
  kept.push(Buffer.alloc(mib * 1024 * 1024, 1))
  return process.pid
}

/** Allocates memory outside of the heap without end, once the file exists. */
export const eatMemory = (file) => {
  while (file !== undefined && !existsSync(file));
  for (;;) leak(8)
}

/** Does so in all attempts before this one. */
export const eatUntilAttempt = (attempt) => {
  if (currentTask().attempt < attempt) eatMemory()
  return currentTask().attempt
}

/** Blocks for 20 ms, then dies if the item is fatal. */
export const dieAt = (fatal) => {
  busyFor(20)
  if (fatal) process.kill(process.pid, 'SIGKILL')
}

/** Exits after its result was sent, between two tasks. */
export const exitNext = (value) => {
  setImmediate(() => process.exit(3))
  return value
}

/** For an initializer: stops its process if the file exists, and removes the file, so that the next worker starts. */
export const stopOnce = (file) => {
  if (!existsSync(file)) return
  rmSync(file)
  process.kill(process.pid, 'SIGSTOP')
}

/** Appends a line and exits. With the initializer refuseWhile no other worker can start. */
export const dieAndBlock = (file, block) => {
  appendFileSync(file, 'run\n')
  appendFileSync(block, '')
  process.exit(5)
}

/** For an initializer: throws while the file exists. */
export const throwWhile = (file) => {
  if (existsSync(file)) throw new Error('the database is away')
}

/** For an initializer: throws if the file exists, and removes it, so that the next worker starts. */
export const throwOnce = (file) => {
  if (!existsSync(file)) return
  rmSync(file)
  throw new Error('the database is away')
}

/** For an initializer: exits while the file exists. */
export const refuseWhile = (file) => {
  if (existsSync(file)) process.exit(4)
}
