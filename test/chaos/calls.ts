import { isFarpoolError, type Pool } from './farpool.js'
import { type CallFacts, callLine, failureWord, type HistoryFile } from './history.js'
import { type Item, keyOf, now } from './item.js'
import type { Step } from './plan.js'
import type { Random } from './random.js'

/** Numbers of a client's items: each lane has its own, so that a plan does not depend on how lanes interleave. */
export interface Numbers {
  next: number
  readonly stride: number
}

/** The calls of one client process: makes them, writes down what becomes of them, and knows which have not ended. */
export class Calls {
  #last = 0
  #open = 0
  /** Items asked for so far. */
  issued = 0

  constructor(
    private readonly client: number,
    private readonly history: HistoryFile,
  ) {}

  get open(): number {
    return this.#open
  }

  /** Does a step in a pool; resolves when all its calls have ended, with false where they found no server. */
  async step(pool: Pool, number: number, step: Step, numbers: Numbers, random: Random): Promise<boolean> {
    const controller = step.abortAfter === undefined ? undefined : new AbortController()
    const options = {
      retries: step.retries,
      ...(step.timeout === undefined ? {} : { timeout: step.timeout }),
      ...(controller === undefined ? {} : { signal: controller.signal }),
    }
    const abort = controller && setTimeout(() => controller.abort(), step.abortAfter)
    const context = { pool, number, step, numbers, random, options }
    try {
      switch (step.do) {
        case 'apply':
        case 'burst':
          return await this.#burst(context)
        case 'bulk':
          return await this.#bulk(context)
        case 'map':
          return await this.#map(context)
        case 'imap':
          return await this.#imap(context)
      }
    } finally {
      clearTimeout(abort)
    }
  }

  async #burst(context: Context): Promise<boolean> {
    const { pool, step, options } = context
    const results = Array.from({ length: step.count }, () => {
      const call = this.#begin('apply', context, 1)
      const [item] = call.items
      try {
        return pool.applyAsync(step.function, [item], undefined, {
          ...options,
          callback: (result) => this.#end(call, String(result)),
          errorCallback: (error) => this.#end(call, wordOf(error)),
        })
      } catch (error) {
        this.#end(call, wordOf(error))
        return undefined
      }
    })
    const settled = await Promise.allSettled(results.map(async (result) => result?.get()))
    return !settled.some((result) => result.status === 'rejected' && isAway(result.reason))
  }

  async #bulk(context: Context): Promise<boolean> {
    const call = this.#begin('apply', context, 1)
    const bytes = new Uint8Array(context.step.cost).fill(call.facts.call)
    try {
      const reply = await context.pool.apply('bulk', [call.items[0], bytes], undefined, context.options)
      const [result, back] = reply as [string, Uint8Array]
      const isRight = back.length === bytes.length && back.every((byte, at) => byte === ((bytes[at] ?? 0) ^ 0xff))
      this.#end(call, isRight ? result : 'wrong-bytes')
    } catch (error) {
      this.#end(call, wordOf(error))
      return !isAway(error)
    }
    return true
  }

  async #map(context: Context): Promise<boolean> {
    const { pool, step } = context
    const call = this.#begin(step.settle ? 'settle' : 'map', context, step.count)
    const options = { ...context.options, ...(step.chunksize === undefined ? {} : { chunksize: step.chunksize }) }
    try {
      const words = step.settle
        ? (await pool.map(step.function, call.items, { ...options, settle: true })).map((outcome) =>
            outcome.status === 'fulfilled' ? String(outcome.value) : wordOf(outcome.reason),
          )
        : (await pool.map(step.function, call.items, options)).map(String)
      this.#results(call, 0, words)
      this.#end(call, 'ok')
    } catch (error) {
      this.#fail(call, error)
      return !isAway(error)
    }
    return true
  }

  async #imap(context: Context): Promise<boolean> {
    const { pool, step, options } = context
    const call = this.#begin(step.ordered ? 'imap' : 'unordered', context, step.count)
    const { timeout: _, ...rest } = options
    try {
      const results = pool[step.ordered ? 'imap' : 'imapUnordered'](step.function, call.items, {
        ...rest,
        chunksize: step.chunksize ?? 1,
      })
      for (let at = 0; ; at++) {
        if (at === step.leaveAfter) {
          await results.return()
          this.#end(call, failureWord({ reason: 'CANCELLED', started: undefined, attempt: 0, pid: 0 }))
          return true
        }
        try {
          const { done, value } = await results.next()
          if (done) break
          this.#results(call, at, [String(value)])
        } catch (error) {
          if (!isFarpoolError(error) || error.index === undefined) throw error
          this.#results(call, error.index, [wordOf(error)])
        }
      }
      this.#end(call, 'ok')
    } catch (error) {
      this.#fail(call, error)
      return !isAway(error)
    }
    return true
  }

  #begin(type: CallFacts['type'], { number: pool, step, numbers, random }: Context, count: number): Open {
    const facts: CallFacts = {
      call: ++this.#last,
      function: step.function,
      type,
      pool,
      first: numbers.next,
      stride: numbers.stride,
      count,
      retries: step.retries,
      timeout: type === 'imap' || type === 'unordered' ? 0 : (step.timeout ?? 0),
      givenUp: step.abortAfter !== undefined || step.leaveAfter !== undefined,
      at: now(),
    }
    const items = Array.from({ length: count }, (_, at): Item => {
      const cost = type === 'apply' && step.function !== 'work' ? step.cost : Math.ceil(step.cost * random.next())
      return [keyOf(this.client, facts.first + at * facts.stride), step.retries, cost]
    })
    numbers.next += count * numbers.stride
    this.issued += count
    this.#open++
    this.history.add(...callLine(facts))
    // On the clock of the same event loop as the call's own: where that is busy, both are late.
    const late =
      facts.timeout === 0 ? undefined : setTimeout(() => this.history.add('L', facts.call), 2 * facts.timeout + LATE_MS)
    return { facts, items, late }
  }

  #results({ facts }: Open, index: number, words: readonly string[]): void {
    if (words.length > 0) this.history.add('R', facts.call, index, now().toFixed(3), ...words)
  }

  /** An item's failure has its index; any other is that of all that have no outcome. */
  #fail(call: Open, error: unknown): void {
    if (!isFarpoolError(error) || error.index === undefined) return this.#end(call, wordOf(error))
    this.#results(call, error.index, [wordOf(error)])
    this.#end(call, wordOf(error).replace(/\/(true|false)\//, '/?/'))
  }

  #end({ facts, late }: Open, word: string): void {
    clearTimeout(late)
    this.#open--
    this.history.add('E', facts.call, now().toFixed(3), word)
  }
}

/** So much later than twice its timeout a call has certainly not been ended by it. */
const LATE_MS = 2_000

interface Context {
  readonly pool: Pool
  readonly number: number
  readonly step: Step
  readonly numbers: Numbers
  readonly random: Random
  readonly options: { retries: number; timeout?: number; signal?: AbortSignal }
}

interface Open {
  readonly facts: CallFacts
  readonly items: readonly Item[]
  readonly late: NodeJS.Timeout | undefined
}

/** No server is there now: the next call would fail as fast. */
const isAway = (error: unknown): boolean =>
  isFarpoolError(error) &&
  ['CONNECTION_FAILED', 'SERVER_DRAINING', 'POOL_NOT_FOUND', 'POOL_CLOSED'].includes(error.reason)

function wordOf(error: unknown): string {
  if (!isFarpoolError(error)) {
    process.stderr.write(`an error that is none of farpool's: ${error instanceof Error ? error.stack : error}\n`)
    return failureWord({ reason: 'FOREIGN', started: undefined, attempt: 0, pid: 0 })
  }
  const { reason, started, metadata } = error
  return failureWord({ reason, started, attempt: Number(metadata['attempt'] ?? 0), pid: Number(metadata['pid'] ?? 0) })
}
