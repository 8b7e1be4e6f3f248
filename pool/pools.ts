import { randomUUID } from 'node:crypto'
import { Failure } from '../wire/failure.js'
import { RETRY_MS } from '../wire/protocol.js'
import { truncateUtf8 } from '../wire/truncate.js'
import { FunctionTable } from './function-table.js'
import { Pool, type PoolEvents, type PoolOptions } from './pool.js'
import { Company, Starts } from './process/spawn-throttle.js'
import { refusal } from './scheduler/pool-state.js'
import type { Client } from './scheduler/task.js'

/** The most worker processes that a server may have: a typing error must not fork a machine to death. */
export const MAX_PROCESSES = 1_024

export const DEFAULT_POOL = 'default'

/** How many ended pools are remembered. */
const ENDED_POOLS = 1_000

/** What the caller of OpenPool chooses; undefined for the server's own value. */
export interface OwnedPoolOptions {
  readonly processes: number | undefined
  readonly initializer: string
  readonly initargs: readonly Uint8Array[]
  readonly maxTasksPerChild: number | undefined
}

/** What all pools of a server may have together. */
export interface PoolLimits {
  /** Pools that clients have open. */
  readonly maxPools: number
  readonly maxProcesses: number
}

/** The pools of one server by name: the shared pool "default", and those that clients have opened. */
export class Pools {
  readonly #pools = new Map<string, Pool>()
  /** Owned pools that have ended, and what to tell who still calls them; the oldest are forgotten. */
  readonly #ended = new Map<string, Failure>()
  /** To be told of every request that brings calls. */
  readonly company = new Company()
  readonly #starts = new Starts(this.company)
  #functions = new FunctionTable([])

  constructor(
    readonly defaults: PoolOptions,
    private readonly limits: PoolLimits,
    private readonly eventsOf: (pool: string) => PoolEvents,
  ) {}

  get functions(): FunctionTable {
    return this.#functions
  }

  get all(): readonly Pool[] {
    return [...this.#pools.values()]
  }

  /** Starts the shared pool; resolves when its workers are ready, rejects with the Failure that keeps them from it. */
  async start(events: PoolEvents = {}): Promise<Pool> {
    const pool = this.#add(DEFAULT_POOL, this.defaults, events)
    this.#functions = new FunctionTable(await pool.ready)
    return pool
  }

  /** Throws POOL_NOT_FOUND. The empty name is the shared pool's. */
  get(name: string): Pool {
    const pool = this.#pools.get(name === '' ? DEFAULT_POOL : name)
    if (pool) return pool
    const ended = this.#ended.get(name)
    if (ended) throw ended
    throw new Failure('POOL_NOT_FOUND', `no pool ${JSON.stringify(truncateUtf8(name, 200))}`, {
      metadata: { pool: name.slice(0, 200) },
    })
  }

  /** Whether this was an owned pool whose processes are gone. */
  hasEnded(name: string): boolean {
    return this.#ended.has(name)
  }

  isShared(pool: Pool): boolean {
    return pool.name === DEFAULT_POOL
  }

  /** Opens a pool of a caller's own: the server's functions, the caller's options. Throws what is wrong with them. */
  open(options: OwnedPoolOptions, client: Client, events: PoolEvents): Pool {
    if (options.processes !== undefined) checkCount('processes', options.processes, MAX_PROCESSES)
    if (options.maxTasksPerChild !== undefined) checkCount('maxtasksperchild', options.maxTasksPerChild)
    if (options.initializer !== '') this.#functions.get(options.initializer)
    else if (options.initargs.length > 0) throw new Failure('BAD_REQUEST', 'initargs were given without an initializer')
    this.#checkRoom(options.processes ?? this.defaults.processes)
    this.company.came(client)
    const name = `pool-${randomUUID()}`
    return this.#add(
      name,
      {
        ...this.defaults,
        processes: options.processes ?? this.defaults.processes,
        initializer: options.initializer,
        initargs: options.initargs,
        maxTasksPerChild: options.maxTasksPerChild,
        // It has one client.
        maxRunningPerClient: undefined,
        enterStart: (start) => this.#starts.enter(client, start),
      },
      events,
    )
  }

  /** Throws QUEUE_FULL where a pool of so many processes would be too much. */
  #checkRoom(processes: number): void {
    const { maxPools, maxProcesses } = this.limits
    const open = this.all.filter((pool) => !this.isShared(pool)).length
    const room = { retryDelayMs: RETRY_MS }
    if (open >= maxPools) {
      throw new Failure('QUEUE_FULL', `${open} pools of clients are open; at most ${maxPools} may be`, room)
    }
    const there = this.all.reduce((sum, pool) => sum + pool.options.processes, 0)
    if (there + processes <= maxProcesses) return
    const message = `a pool of ${processes} processes, where there are ${there}; all pools may have ${maxProcesses}`
    throw new Failure('QUEUE_FULL', message, room)
  }

  /** Ends an owned pool and forgets it when its processes are gone. */
  async remove(pool: Pool): Promise<void> {
    const { state } = pool
    await pool.terminate()
    this.#pools.delete(pool.name)
    this.#ended.set(pool.name, refusal(state.kind === 'open' ? { kind: 'terminated' } : state))
    for (const oldest of this.#ended.keys()) {
      if (this.#ended.size <= ENDED_POOLS) break
      this.#ended.delete(oldest)
    }
  }

  /** Lets every pool complete its work and its workers exit; resolves when they have. */
  async close(): Promise<void> {
    await Promise.all(
      this.all.map((pool) => {
        pool.close()
        return pool.ended
      }),
    )
  }

  /** Kills every worker of every pool; resolves when they are gone. */
  async terminate(): Promise<void> {
    await Promise.all(this.all.map((pool) => pool.terminate()))
  }

  #add(name: string, options: PoolOptions, events: PoolEvents = {}): Pool {
    const log = this.eventsOf(name)
    const pool = new Pool(name, options, {
      ...log,
      workerExited: (exit) => {
        log.workerExited?.(exit)
        events.workerExited?.(exit)
      },
      failed: (failure) => {
        log.failed?.(failure)
        events.failed?.(failure)
      },
      broken: (failure) => {
        log.broken?.(failure)
        events.broken?.(failure)
      },
      recovered: () => {
        log.recovered?.()
        events.recovered?.()
      },
    })
    this.#pools.set(name, pool)
    return pool
  }
}

/** Throws BAD_REQUEST where a count is not an integer from 1 to `max`. */
export function checkCount(what: string, value: number, max = Number.MAX_SAFE_INTEGER): void {
  if (Number.isInteger(value) && value >= 1 && value <= max) return
  const range = max === Number.MAX_SAFE_INTEGER ? '1 or more' : `from 1 to ${max}`
  throw new Failure('BAD_REQUEST', `${what} is ${value}; it must be an integer, ${range}`)
}
