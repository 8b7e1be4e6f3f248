import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type LocalOptions, Pool, type PoolOptions } from 'farpool'
import { afterAll, beforeAll } from 'vitest'
import { FUNCTIONS, ServerProcess } from './server.js'
import { makeStub, type Stub } from './stub.js'

export interface FarmOptions {
  /** Arguments of `farpool serve`, after the modules. Default: `['--processes', '1']`. */
  readonly args?: readonly string[]
  /** The source code of the served module. Default: the file functions.mjs of this folder. */
  readonly module?: string
  /** Options of the client `pool`. Default: none, so that it uses the server's shared pool. */
  readonly options?: PoolOptions
  /** A command that runs the server's command, for example `['nice']`. Default: none. */
  readonly prefix?: readonly string[]
}

/**
 * A server, a client of it, and a temporary folder, for one test or for a whole file. Disposing it terminates the
 * clients, then ends the server without a drain, then removes the folder.
 */
export class Farm implements AsyncDisposable {
  readonly #options: FarmOptions
  readonly #pools: Pool[] = []
  #server: ServerProcess | undefined
  #pool: Pool | undefined
  #stub: Stub | undefined
  #folder: string | undefined
  #files = 0

  constructor(options: FarmOptions) {
    this.#options = options
  }

  /** Resolves when the server accepts calls. */
  async start(): Promise<this> {
    const { args = ['--processes', '1'], module, options, prefix } = this.#options
    if (module !== undefined) writeFileSync(this.path('module.mjs'), module)
    const modules = [module === undefined ? FUNCTIONS : this.path('module.mjs')]
    this.#server = await ServerProcess.start([...args], modules, prefix)
    this.#pool = this.connect(options)
    return this
  }

  get server(): ServerProcess {
    if (!this.#server) throw new Error('the farm has not started')
    return this.#server
  }

  get address(): string {
    return this.server.address
  }

  /** The client that every test needs. */
  get pool(): Pool {
    if (!this.#pool) throw new Error('the farm has not started')
    return this.#pool
  }

  /** A client of nothing but generated stubs. */
  get stub(): Stub {
    this.#stub ??= makeStub(this.address)
    return this.#stub
  }

  /** Another client of the same server. A test may also terminate it by itself. */
  connect(options?: PoolOptions): Pool {
    const pool = new Pool(this.address, options)
    this.#pools.push(pool)
    return pool
  }

  /** A pool over a given transport: a client of the server, or a local pool of the same module with 2 processes. */
  async open(transport: 'local' | 'stream' | 'unary', options: Omit<PoolOptions, 'transport'> = {}): Promise<Pool> {
    if (transport !== 'local') return this.connect({ ...options, transport })
    const local: LocalOptions = { processes: 2, graceMs: 200, ...options }
    const pool = await Pool.local(this.#options.module === undefined ? FUNCTIONS : this.path('module.mjs'), local)
    this.#pools.push(pool)
    return pool
  }

  /** The path of a file in the temporary folder. */
  path(name: string): string {
    this.#folder ??= mkdtempSync(join(tmpdir(), 'farpool-test-'))
    return join(this.#folder, name)
  }

  /** A path in the temporary folder that nothing has used before. */
  fresh(): string {
    return this.path(`file-${++this.#files}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#pools.map((pool) => pool.terminate()))
    this.#stub?.close()
    await this.#server?.[Symbol.asyncDispose]()
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true })
  }
}

/**
 * Starts a farm for one test:
 *
 *     await using farm = await startFarm({ module: `export const twice = (x) => 2 * x`, args: ['--processes', '2'] })
 *     expect(await farm.pool.apply('twice', [4])).toBe(8)
 *
 * Fails with the server's log if the server does not start.
 */
export const startFarm = (options: FarmOptions = {}): Promise<Farm> => new Farm(options).start()

/**
 * One farm for all tests of the file or of the `describe` that calls this: it starts before the first of them and ends
 * after the last. Call it outside of tests. A start of a server costs about half a second of CPU time, so tests that do
 * not disturb each other should share one.
 */
export function sharedFarm(options: FarmOptions = {}): Farm {
  const farm = new Farm(options)
  beforeAll(async () => {
    await farm.start()
  })
  afterAll(() => farm[Symbol.asyncDispose]())
  return farm
}
