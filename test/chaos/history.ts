import { appendFileSync, closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'

/**
 * The history of a run: one file of lines for each client process, for each worker process, and for the harness. The files
 * are read line by line, because a long run has millions of lines.
 *
 *   client-N.history   P  a pool was opened       X  terminate, or close and join, begins      T  it has resolved
 *                      U  an unhandled rejection
 *                      C  a call began            R  outcomes of items, in the order in which the client got them
 *                      E  a call ended            L  its timeout is long over, but it has not ended       D  the client is done
 *   work-PID.history   b  the process began       s  an execution began     f  an execution ended
 *   faults.history     the injected faults: kind, time, target
 */
export type ClientEvent =
  | { kind: 'pool'; pool: number; type: 'shared' | 'owned' | 'local'; at: number }
  | { kind: 'ending'; pool: number; at: number }
  | { kind: 'ended'; pool: number; at: number }
  | { kind: 'unhandled'; what: string }
  | ({ kind: 'call' } & CallFacts)
  | { kind: 'results'; call: number; index: number; at: number; outcomes: readonly string[] }
  | { kind: 'end'; call: number; at: number; outcome: string }
  | { kind: 'late'; call: number }
  | { kind: 'done' }

export interface CallFacts {
  call: number
  function: string
  /** The outcome of an apply is the outcome of its only item. All other types have `results` events and an `end`. */
  type: 'apply' | 'map' | 'settle' | 'imap' | 'unordered'
  pool: number
  /** The items have the numbers first, first + stride, … */
  first: number
  stride: number
  count: number
  retries: number
  /** In milliseconds; 0: none. */
  timeout: number
  /** The caller cancels it, by a signal or by leaving the iteration. */
  givenUp: boolean
  at: number
}

export type ExecutionEvent =
  | { kind: 'begin'; pid: number; at: number }
  | { kind: 'start'; pid: number; key: number; attempt: number; retries: number; at: number }
  | { kind: 'finish'; pid: number; key: number; attempt: number; at: number }

export interface Fault {
  kind: string
  at: number
  /** A pid or the number of a client; 0: none. */
  target: number
}

/** A failure as it is recorded. An outcome is one token: the result, `ok` for a call with many results, or a failure. */
export interface FailureFacts {
  reason: string
  started: boolean | undefined
  attempt: number
  pid: number
}

export const failureToken = ({ reason, started, attempt, pid }: FailureFacts): string =>
  `!${reason}/${started ?? '?'}/${attempt}/${pid}`

/** Parses the token of a failure; undefined if the token is a result. */
export function failureIn(token: string): FailureFacts | undefined {
  if (!token.startsWith('!')) return undefined
  const [reason = '', started, attempt, pid] = token.slice(1).split('/')
  return {
    reason,
    started: started === '?' ? undefined : started === 'true',
    attempt: Number(attempt),
    pid: Number(pid),
  }
}

/** A history file. Its lines are written in batches, always before the process sends anything else. */
export class HistoryFile {
  #lines = ''

  constructor(private readonly path: string) {}

  /** The write is a microtask. It runs before the microtasks of the calls that the line describes. */
  add(...words: readonly (string | number)[]): void {
    if (this.#lines === '') queueMicrotask(() => this.flush())
    this.#lines += `${words.join(' ')}\n`
  }

  flush(): void {
    if (this.#lines !== '') appendFileSync(this.path, this.#lines)
    this.#lines = ''
  }
}

export const callLine = (facts: CallFacts): (string | number)[] => [
  'C',
  facts.call,
  facts.function,
  facts.type,
  facts.pool,
  facts.first,
  facts.stride,
  facts.count,
  facts.retries,
  facts.timeout,
  Number(facts.givenUp),
  facts.at.toFixed(3),
]

export const clientFile = (folder: string, client: number): string => join(folder, `client-${client}.history`)
export const faultFile = (folder: string): string => join(folder, 'faults.history')

/** The lines of a file, as long as they are whole: who wrote it may have been killed within one. */
export function* lines(path: string): Iterable<string> {
  const file = openSync(path, 'r')
  const buffer = Buffer.alloc(1024 * 1024)
  let rest = ''
  try {
    for (let read = readSync(file, buffer); read > 0; read = readSync(file, buffer)) {
      const pieces = (rest + buffer.toString('latin1', 0, read)).split('\n')
      rest = pieces.pop() ?? ''
      yield* pieces
    }
  } finally {
    closeSync(file)
  }
}

export function* clientEvents(path: string): Iterable<ClientEvent> {
  for (const line of lines(path)) {
    const [what, ...words] = line.split(' ')
    const [first = '', second = '', third = ''] = words
    switch (what) {
      case 'P':
        yield { kind: 'pool', pool: Number(first), type: second as 'shared', at: Number(third) }
        break
      case 'X':
        yield { kind: 'ending', pool: Number(first), at: Number(second) }
        break
      case 'T':
        yield { kind: 'ended', pool: Number(first), at: Number(second) }
        break
      case 'U':
        yield { kind: 'unhandled', what: words.join(' ') }
        break
      case 'C':
        yield { kind: 'call', ...callIn(words) }
        break
      case 'R':
        yield {
          kind: 'results',
          call: Number(first),
          index: Number(second),
          at: Number(third),
          outcomes: words.slice(3),
        }
        break
      case 'E':
        yield { kind: 'end', call: Number(first), at: Number(second), outcome: third }
        break
      case 'L':
        yield { kind: 'late', call: Number(first) }
        break
      case 'D':
        yield { kind: 'done' }
        break
    }
  }
}

function callIn(words: readonly string[]): CallFacts {
  const [call, name = '', type, pool, first, stride, count, retries, timeout, givenUp, at] = words
  return {
    call: Number(call),
    function: name,
    type: type as CallFacts['type'],
    pool: Number(pool),
    first: Number(first),
    stride: Number(stride),
    count: Number(count),
    retries: Number(retries),
    timeout: Number(timeout),
    givenUp: givenUp === '1',
    at: Number(at),
  }
}

/** The events of all worker processes. */
export function* executionEvents(folder: string): Iterable<ExecutionEvent> {
  for (const name of readdirSync(folder)) {
    const pid = Number(/^work-(\d+)\.history$/.exec(name)?.[1] ?? 0)
    if (pid === 0) continue
    for (const line of lines(join(folder, name))) {
      const [what, first = '', second = '', third = '', fourth = ''] = line.split(' ')
      const key = Number.parseInt(first, 36)
      const attempt = Number(second)
      if (what === 'b') yield { kind: 'begin', pid, at: Number(second) }
      else if (what === 's') yield { kind: 'start', pid, key, attempt, retries: Number(third), at: Number(fourth) }
      else if (what === 'f') yield { kind: 'finish', pid, key, attempt, at: Number(third) }
    }
  }
}

export const faults = (folder: string): Fault[] =>
  readFileSync(faultFile(folder), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [kind = '', at, target] = line.split(' ')
      return { kind, at: Number(at), target: Number(target) }
    })
