import { readdirSync, readFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { childrenOf } from '../chaos/processes.js'
import { ServerProcess, until } from './server.js'

const MIB = 1024 * 1024

/** The memory that may remain after an attack: garbage that is not yet collected, but not the sent bytes. */
const LEFT_BYTES = 256 * MIB

/** The memory that the server may use during an attack. */
const PEAK_BYTES = 512 * MIB

/** A server under attack, and an innocent client of it. */
export class Siege implements AsyncDisposable {
  private constructor(
    readonly server: ServerProcess,
    /** The innocent client. */
    readonly pool: Pool,
    private readonly descriptors: number,
    private readonly processes: number,
  ) {}

  static async start(args: string[] = []): Promise<Siege> {
    // A silent attacker is noticed soon.
    const server = await ServerProcess.start(['--processes', '2', '--grace', '200', '--ping-timeout', '15000', ...args])
    const pool = new Pool(server.address)
    await pool.map('identity', [1, 2, 3, 4], { chunksize: 1 })
    return new Siege(server, pool, descriptorsOf(server), childrenOf(server.pid).length)
  }

  get address(): string {
    return this.server.address
  }

  /**
   * Runs an attack while an innocent client calls. Afterwards each call of that client must have its right result, no call
   * may wait or run, the server must have as many processes as before, its peak memory may be at most `peakBytes` higher,
   * and at most `leftBytes` of that may remain. Returns the result of the attack.
   */
  async withstands<T>(attack: () => Promise<T>, peakBytes = PEAK_BYTES, leftBytes = LEFT_BYTES): Promise<T> {
    const before = this.#memory('VmRSS')
    const peak = this.#memory('VmHWM')
    let over = false
    const innocent = (async () => {
      for (let calls = 0; !over || calls < 20; calls++) {
        const sum = await this.pool.apply('add', [calls, 1])
        if (sum !== calls + 1) throw new Error(`${calls} + 1 is ${sum}`)
      }
    })()
    // The error is thrown below, also if the attack fails.
    innocent.catch(() => {})
    let result: T
    try {
      result = await attack()
    } finally {
      over = true
      await innocent
    }
    await until(async () => {
      const { queued, running } = await this.pool.info()
      return queued === 0 && running === 0
    }, 'nothing waits and nothing runs')
    // Workers whose tasks did not end are being replaced.
    const { processes } = this
    await until(() => childrenOf(this.server.pid).length === processes, `there are ${processes} processes again`)
    await until(() => this.#memory('VmRSS') - before <= leftBytes, `it has at most ${leftBytes / MIB} MiB more`)
    const most = this.#memory('VmHWM') - Math.max(peak, before)
    if (most > peakBytes) throw new Error(`the attack took ${Math.round(most / MIB)} MiB`)
    return result
  }

  /**
   * Resolves when the server has no more connections than at its start. The server does not read from a connection after a
   * GOAWAY, so it closes such a connection only when pings have found it dead, after 20 seconds.
   */
  connectionsAreClosed(): Promise<void> {
    return until(() => descriptorsOf(this.server) <= this.descriptors, `no more than ${this.descriptors} are open`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pool.terminate()
    await this.server[Symbol.asyncDispose]()
  }

  /** In bytes; 0 on systems without /proc. */
  #memory(what: 'VmRSS' | 'VmHWM'): number {
    if (process.platform !== 'linux') return 0
    const status = readFileSync(`/proc/${this.server.pid}/status`, 'utf8')
    return Number(new RegExp(`${what}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024
  }
}

function descriptorsOf(server: ServerProcess): number {
  return process.platform === 'linux' ? readdirSync(`/proc/${server.pid}/fd`).length : 0
}
