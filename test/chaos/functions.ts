import { openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { currentTask } from 'farpool/worker'
import { type Item, now, resultOf } from './item.js'

/**
 * The functions of the workers. Each execution is written down when it begins and when it ends, a line with one write
 * to a file of this process, so that what a killed worker began is known. Their cost is in microseconds.
 */
const file = openSync(join(process.env['FARPOOL_CHAOS_DIR'] ?? '.', `work-${process.pid}.history`), 'a')

const write = (...words: (string | number)[]): void => void writeSync(file, `${words.join(' ')}\n`)

write('b', process.pid, now().toFixed(3))

function begin([key, retries]: Item): number {
  const { attempt } = currentTask()
  write('s', key.toString(36), attempt, retries, now().toFixed(3))
  return attempt
}

function end([key]: Item, attempt: number): string {
  write('f', key.toString(36), attempt, now().toFixed(3))
  return resultOf(key)
}

function spin(micros: number): void {
  const until = performance.now() + micros / 1_000
  while (performance.now() < until);
}

/** Ends when its time is over or when its caller has given up; whichever comes first. */
function rest(micros: number): Promise<void> {
  const { signal } = currentTask()
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', abort)
      resolve()
    }, micros / 1_000)
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
  })
}

/** Computes for so long, deaf to everything: where its caller gives up, only the grace ends it. */
export function work(item: Item): string {
  const attempt = begin(item)
  spin(item[2])
  return end(item, attempt)
}

/** Waits for so long, and heeds its signal. */
export async function nap(item: Item): Promise<string> {
  const attempt = begin(item)
  await rest(item[2])
  return end(item, attempt)
}

/** Throws. */
export function fail(item: Item): never {
  begin(item)
  throw new RangeError(`no result for ${resultOf(item[0])}`)
}

/** Every third item throws. */
export function mixed(item: Item): string {
  const attempt = begin(item)
  if (item[0] % 3 === 0) throw new RangeError(`no result for ${resultOf(item[0])}`)
  return end(item, attempt)
}

/** Takes its process along; the last attempt that it has survives. */
export function crash(item: Item): string {
  const attempt = begin(item)
  if (attempt <= item[1] || item[1] === 0) {
    if (item[0] % 2 === 0) process.kill(process.pid, 'SIGKILL')
    process.exit(3)
  }
  return end(item, attempt)
}

/** Takes and returns many bytes: the cost is their number. */
export function bulk(item: Item, bytes: Uint8Array): [string, Uint8Array] {
  const attempt = begin(item)
  return [end(item, attempt), bytes.map((byte) => byte ^ 0xff)]
}

/** Prints more than a pipe holds. */
export function chatter(item: Item): string {
  const attempt = begin(item)
  for (let line = 0; line < 40; line++) console.log('x'.repeat(item[2]))
  return end(item, attempt)
}

/** Computes without end: only a kill ends it. */
export function loop(item: Item): never {
  begin(item)
  for (;;);
}

let initialized = 0

/** An initializer. */
export function prepare(value: number): void {
  initialized = value
}

/** Whether the initializer has run in this process. */
export function prepared(item: Item): string {
  const attempt = begin(item)
  if (initialized !== item[2]) throw new Error(`the initializer left ${initialized}, not ${item[2]}`)
  return end(item, attempt)
}

/** An initializer that fails. */
export function refuse(): never {
  throw new Error('this initializer always fails')
}
