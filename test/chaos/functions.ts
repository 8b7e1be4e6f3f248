import { openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { currentTask } from 'farpool/worker'
import { type Item, now, resultOf } from './item.js'

/**
 * The functions of the workers. Each execution records its begin and its end. Every record is one write to the history of
 * this process, so the records of a killed worker are complete. The cost of an item is in microseconds.
 */
const file = openSync(join(process.env['CHAOS_DIR'] ?? '.', `work-${process.pid}.history`), 'a')

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

/** Waits for `micros` microseconds. Rejects earlier if the call is cancelled. */
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

/** Computes and ignores its abort signal: if the call is cancelled, the worker is killed after the grace. */
export function work(item: Item): string {
  const attempt = begin(item)
  spin(item[2])
  return end(item, attempt)
}

/** Waits, and ends when its abort signal fires. */
export async function nap(item: Item): Promise<string> {
  const attempt = begin(item)
  await rest(item[2])
  return end(item, attempt)
}

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

/** Ends its process. If the item has retries, the last attempt succeeds. */
export function crash(item: Item): string {
  const attempt = begin(item)
  if (attempt <= item[1] || item[1] === 0) {
    if (item[0] % 2 === 0) process.kill(process.pid, 'SIGKILL')
    process.exit(3)
  }
  return end(item, attempt)
}

/** Takes and returns many bytes. The cost is their number. */
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

/** An endless loop: only a kill ends it. */
export function loop(item: Item): never {
  begin(item)
  for (;;);
}

let initialized = 0

/** An initializer. */
export function prepare(value: number): void {
  initialized = value
}

/** Throws if the initializer has not run in this process with the item's value. */
export function prepared(item: Item): string {
  const attempt = begin(item)
  if (initialized !== item[2]) throw new Error(`the initializer left ${initialized}, not ${item[2]}`)
  return end(item, attempt)
}

/** An initializer that fails. */
export function refuse(): never {
  throw new Error('this initializer always fails')
}
