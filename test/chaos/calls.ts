import { isFarpoolError, type Pool } from './farpool.js'
import { type CallFacts, callLine, failureToken, type HistoryFile } from './history.js'
import { type Item, keyOf, now } from './item.js'
import type { Step } from './plan.js'
import type { Random } from './random.js'

/** The numbers of the items of one lane. Each lane has its own, so that its plan does not depend on the other lanes. */
export interface Numbers {
  next: number
  readonly stride: number
}

/** The calls of one client process. It makes them, records their outcomes, and counts the open ones. */
export class Calls {
  #last = 0
  #open = 0
  /** The number of items so far. */
  issued = 0

  constructor(
    private readonly client: number,
    private readonly history: HistoryFile,
  ) {}

  get open(): number {
    return this.#open
  }

  /** Runs a step in a pool. Resolves when all its calls have ended; with false if no server was there. */
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
          errorCallback: (error) => this.#end(call, tokenOf(error)),
        })
      } catch (error) {
        this.#end(call, tokenOf(error))
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
      this.#end(call, tokenOf(error))
      return !isAway(error)
    }
    return true
  }

  async #map(context: Context): Promise<boolean> {
    const { pool, step } = context
    const call = this.#begin(step.settle ? 'settle' : 'map', context, step.count)
    const options = { ...context.options, ...(step.chunksize === undefined ? {} : { chunksize: step.chunksize }) }
    try {
      const tokens = step.settle
        ? (await pool.map(step.function, call.items, { ...options, settle: true })).map((outcome) =>
            outcome.status === 'fulfilled' ? String(outcome.value) : tokenOf(outcome.reason),
          )
        : (await pool.map(step.function, call.items, options)).map(String)
      this.#results(call, 0, tokens)
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
          this.#end(call, failureToken({ reason: 'CANCELLED', started: undefined, attempt: 0, pid: 0 }))
          return true
        }
        try {
          const { done, value } = await results.next()
          if (done) break
          this.#results(call, at, [String(value)])
        } catch (error) {
          if (!isFarpoolError(error) || error.index === undefined) throw error
          this.#results(call, error.index, [tokenOf(error)])
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
    // The timer of the call runs in the same event loop: if the loop is busy, both are late.
    const late =
      facts.timeout === 0 ? undefined : setTimeout(() => this.history.add('L', facts.call), 2 * facts.timeout + LATE_MS)
    return { facts, items, late }
  }

  #results({ facts }: Open, index: number, tokens: readonly string[]): void {
    if (tokens.length > 0) this.history.add('R', facts.call, index, now().toFixed(3), ...tokens)
  }

  /** A failure with an index belongs to one item. Any other one belongs to all items without an outcome. */
  #fail(call: Open, error: unknown): void {
    if (!isFarpoolError(error) || error.index === undefined) return this.#end(call, tokenOf(error))
    this.#results(call, error.index, [tokenOf(error)])
    this.#end(call, tokenOf(error).replace(/\/(true|false)\//, '/?/'))
  }

  #end({ facts, late }: Open, token: string): void {
    clearTimeout(late)
    this.#open--
    this.history.add('E', facts.call, now().toFixed(3), token)
  }
}

/** A call that is still open after twice its timeout plus this time breaks the rule `late`. */
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

/** True if no server is there: the next call would fail at once too. */
const isAway = (error: unknown): boolean =>
  isFarpoolError(error) &&
  ['CONNECTION_FAILED', 'SERVER_DRAINING', 'POOL_NOT_FOUND', 'POOL_CLOSED'].includes(error.reason)

function tokenOf(error: unknown): string {
  if (!isFarpoolError(error)) {
    process.stderr.write(`an error that is not a FarpoolError: ${error instanceof Error ? error.stack : error}\n`)
    return failureToken({ reason: 'FOREIGN', started: undefined, attempt: 0, pid: 0 })
  }
  const { reason, started, metadata } = error
  return failureToken({ reason, started, attempt: Number(metadata['attempt'] ?? 0), pid: Number(metadata['pid'] ?? 0) })
}
