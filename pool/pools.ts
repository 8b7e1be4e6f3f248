import { randomUUID } from 'node:crypto'
import { asFailure, Failure } from '../wire/failure.js'
import { firstNames } from '../wire/nearest.js'
import { RETRY_MS } from '../wire/protocol.js'
import { truncateUtf8 } from '../wire/truncate.js'
import { DEFAULT_POOL, type Engine, type EnginePool, type OwnedPoolOptions } from './engine.js'
import { type OutputSink, Pool, type PoolOptions } from './pool.js'
import { SpawnThrottle } from './process/spawn-throttle.js'
import { type Observer, observeAll } from './scheduler/effects.js'
import { refusal } from './scheduler/pool-state.js'
import type { Identity } from './scheduler/task.js'

/** The most worker processes that one pool may ask for: a typing error must not fork a machine to death. */
export const MAX_PROCESSES = 1_024

/** Owned pools that have ended and are remembered, so that late callers hear why. */
const ENDED_POOLS = 1_000

/** Limits of all pools together. */
export interface PoolLimits {
  /** Owned pools that may be open at once. */
  readonly maxPools: number
  readonly maxProcesses: number
}

/** What a shared pool is made of, and the owned pools that are made from it, except for their processes and initializer. */
export type PoolDefaults = Omit<PoolOptions, 'observer' | 'output' | 'throttle' | 'functions'>

/** The engine of one machine: the shared pools, and the pools that clients have opened for themselves. */
export class Pools implements Engine {
  readonly #pools = new Map<string, Pool>()
  /** Owned pools that have ended, and what their late callers are told. The oldest are forgotten. */
  readonly #ended = new Map<string, Failure>()
  /** Who has opened each owned pool, also of those that have ended. */
  readonly #owners = new Map<string, Identity>()
  readonly #throttle = new SpawnThrottle()

  /**
   * @param defaults the shared pools by name, the one named `default` first.
   * @param watch the observer and the output sink of a pool, by its name.
   */
  constructor(
    private readonly defaults: ReadonlyMap<string, PoolDefaults>,
    private readonly limits: PoolLimits,
    private readonly watch: (pool: string) => { readonly observer: Observer; readonly output: OutputSink },
  ) {}

  get pools(): readonly Pool[] {
    return [...this.#pools.values()]
  }

  get shared(): readonly Pool[] {
    return this.pools.filter((pool) => this.isShared(pool))
  }

  /**
   * Starts the shared pools. Resolves when all their workers are ready, rejects with the Failure that prevents it.
   * @param observer sees the changes of all of them.
   */
  async start(observer: Observer = {}): Promise<void> {
    const pools = [...this.defaults].map(([name, defaults]) => this.#add(name, defaults, observer))
    await Promise.all(
      pools.map(({ name, ready }) =>
        ready.catch((error: unknown) => {
          throw pools.length === 1 ? error : failureOf(name, asFailure(error))
        }),
      ),
    )
  }

  /**
   * The modules of a shared pool have changed: loads them in a trial worker, then replaces the workers of the pool, and of
   * the pools that are made from it. Tasks that run end on their old worker.
   * @throws Failure if the modules cannot be loaded or the initializer fails; then the old workers stay.
   */
  async reload(name: string): Promise<void> {
    const shared = this.shared.find((pool) => pool.name === name)
    if (!shared) return
    const { options, functions } = shared
    const trial = new Pool('trial', { ...options, processes: 1, observer: {} })
    try {
      functions.replace(await trial.ready)
      for (const pool of this.pools) if (pool.functions === functions) pool.replaceWorkers()
    } finally {
      await trial.terminate()
    }
  }

  pool(name: string, caller: Identity): Pool {
    const owner = this.#owners.get(name)
    if (owner === undefined || owner === caller) {
      const pool = this.#pools.get(name === '' ? DEFAULT_POOL : name)
      if (pool) return pool
      const ended = this.#ended.get(name)
      if (ended) throw ended
    }
    const shown = JSON.stringify(truncateUtf8(name, 200))
    throw new Failure('POOL_NOT_FOUND', `no pool ${shown}; ${this.#sharedNames}`, {
      metadata: { pool: name.slice(0, 200) },
    })
  }

  hasEnded(name: string, caller: Identity): boolean {
    return this.#ended.has(name) && this.#owners.get(name) === caller
  }

  isShared(pool: EnginePool): boolean {
    return this.defaults.has(pool.name)
  }

  open(owned: OwnedPoolOptions, owner: Identity, observer: Observer): Pool {
    const { sharedPool, initializer, initargs, maxTasksPerChild } = owned
    const shared = this.pool(sharedPool, owner)
    if (!this.isShared(shared)) {
      throw new Failure('BAD_REQUEST', `${JSON.stringify(sharedPool)} is no shared pool; ${this.#sharedNames}`)
    }
    const { options, functions } = shared
    const { processes = options.processes } = owned
    checkCount('processes', processes, MAX_PROCESSES)
    if (maxTasksPerChild !== undefined) checkCount('maxtasksperchild', maxTasksPerChild)
    if (initializer !== '' && !functions.byName.has(initializer)) throw functions.unknown(initializer)
    if (initializer === '' && initargs.length > 0) {
      throw new Failure('BAD_REQUEST', 'initargs were given without an initializer')
    }
    this.#checkRoom(processes)
    const name = `pool-${randomUUID()}`
    this.#owners.set(name, owner)
    return this.#add(
      name,
      {
        ...options,
        processes,
        initializer,
        initargs,
        maxTasksPerChild,
        // It has one client, which may use all of its workers.
        maxRunningPerClient: undefined,
        throttle: this.#throttle,
        functions,
      },
      observer,
    )
  }

  async release(pool: EnginePool): Promise<void> {
    const { state } = pool
    await pool.terminate('ended with its lease, because its client or the connection is gone,')
    this.#pools.delete(pool.name)
    this.#ended.set(pool.name, refusal(state.kind === 'open' ? { kind: 'terminated' } : state))
    for (const oldest of this.#ended.keys()) {
      if (this.#ended.size <= ENDED_POOLS) break
      this.#ended.delete(oldest)
      this.#owners.delete(oldest)
    }
  }

  /** Lets every pool complete its tasks. Resolves when all workers have exited. */
  async close(): Promise<void> {
    await Promise.all(
      this.pools.map((pool) => {
        pool.close()
        return pool.ended
      }),
    )
  }

  /** Kills every worker of every pool. Resolves when they are gone. */
  async terminate(): Promise<void> {
    await Promise.all(this.pools.map((pool) => pool.terminate()))
  }

  get #sharedNames(): string {
    return `shared pools: ${firstNames([...this.defaults.keys()])}`
  }

  /** Throws QUEUE_FULL if a further pool of this size would exceed the limits. */
  #checkRoom(processes: number): void {
    const { maxPools, maxProcesses } = this.limits
    const open = this.pools.length - this.shared.length
    const facts = { retryDelayMs: RETRY_MS }
    if (open >= maxPools) {
      throw new Failure('QUEUE_FULL', `${open} pools of clients are open; at most ${maxPools} may be`, facts)
    }
    const existing = this.pools.reduce((sum, pool) => sum + pool.options.processes, 0)
    if (existing + processes <= maxProcesses) return
    const message = `a pool of ${processes} processes, where there are ${existing}; all pools may have ${maxProcesses}`
    throw new Failure('QUEUE_FULL', message, facts)
  }

  #add(name: string, options: Omit<PoolOptions, 'observer' | 'output'>, observer: Observer): Pool {
    const watch = this.watch(name)
    const pool = new Pool(name, {
      ...options,
      observer: observeAll([watch.observer, observer]),
      output: watch.output,
    })
    this.#pools.set(name, pool)
    return pool
  }
}

/** A failure that names the pool which it belongs to. */
export function failureOf(pool: string, { reason, message, metadata, remote, cause }: Failure): Failure {
  return new Failure(reason, `pool ${pool}: ${message}`, { metadata, ...(remote && { remote }), cause })
}

/** Throws BAD_REQUEST unless the value is an integer from 1 to `max`. */
export function checkCount(what: string, value: number, max = Number.MAX_SAFE_INTEGER): void {
  if (Number.isInteger(value) && value >= 1 && value <= max) return
  const range = max === Number.MAX_SAFE_INTEGER ? '1 or more' : `from 1 to ${max}`
  throw new Failure('BAD_REQUEST', `${what} is ${value}; it must be an integer, ${range}`)
}
