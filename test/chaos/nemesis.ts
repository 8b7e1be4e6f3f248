import { appendFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TrafficClient } from './client.js'
import type { Pool } from './farpool.js'
import { faultFile } from './history.js'
import { now } from './item.js'
import type { Host } from './network.js'
import { signal } from './processes.js'
import type { Random } from './random.js'
import type { ServerUnderTest } from './server.js'

/** The mean interval of each kind of fault, in milliseconds; 0: never. */
export interface Pace {
  /** A worker is killed. */
  readonly kill: number
  /** A worker is stopped for a while. */
  readonly stop: number
  /** A client's connections are cut. */
  readonly cut: number
  /** The server's host is disconnected for a while. */
  readonly partition: number
  /** A client's connections stall for a while. */
  readonly stall: number
  /** A client is killed and replaced. */
  readonly clientKill: number
  /** The server gets SIGTERM and is started again. */
  readonly restart: number
  /** The server is killed and started again. */
  readonly serverKill: number
  /** The server is stopped for a while. */
  readonly freeze: number
}

/** The processes and connections that the nemesis may harm. It finds the workers through the server and the clients. */
export interface NemesisTargets {
  /** The mark in the environment of every process of the run. */
  readonly mark: string
  readonly server: ServerUnderTest
  /** All workers belong to the clients. */
  readonly hasLocalPools: boolean
  readonly shared: Pool
  readonly clients: readonly TrafficClient[]
  /** The host of the server, if it is not the host of the clients. */
  readonly host: Host | undefined
  replace(client: TrafficClient): Promise<void>
  /** Waits until no process of the old server is left. */
  waitUntilGone(): Promise<void>
}

/** The shortest and longest stop or stall, in milliseconds. */
const HOLD_MS = [20, 500] as const
/**
 * The shortest and longest partition, in milliseconds. TCP retransmits after pauses that double, so the connections stall
 * for up to twice as long. That is shorter than the keepalive timeout: no connection, and so no call, may be lost.
 */
const PARTITION_MS = [100, 2_000] as const

/** Injects faults of each kind at its own pace until the signal aborts; then ends all stops and stalls. Records each fault. */
export class Nemesis {
  readonly counts: Record<string, number> = {}
  readonly #held = new Set<() => void>()
  /** The server is being restarted: no other fault may hit it. */
  #isAway = false

  constructor(
    private readonly folder: string,
    private readonly targets: NemesisTargets,
    private readonly random: Random,
  ) {}

  async run(pace: Pace, signal: AbortSignal): Promise<void> {
    const { server, clients, host } = this.targets
    await Promise.all([
      this.#every(pace.kill, signal, () => this.#killWorker()),
      this.#every(pace.stop, signal, () => this.#stopWorker()),
      this.#every(pace.cut, signal, async () => {
        if (host) return this.#reset(host)
        const client = this.#one(clients.filter(({ relay }) => relay?.isUsed))
        if (!client) return
        this.#fault('cut', client.number)
        client.relay?.cut()
      }),
      this.#every(pace.partition, signal, async () => {
        if (!host || this.#isAway) return
        this.#fault('partition', 0)
        const ms = this.random.between(...PARTITION_MS)
        await host.unplug()
        await sleep(ms)
        await host.plug()
        await sleep(ms)
      }),
      this.#every(pace.stall, signal, async () => {
        const relay = this.#one(clients)?.relay
        if (!relay) return
        this.#fault('stall', 0)
        relay.stall()
        await this.#hold(() => relay.resume())
      }),
      this.#every(pace.clientKill, signal, async () => {
        const client = this.#one(clients.filter(({ isRunning }) => isRunning))
        if (!client) return
        this.#fault('client-kill', client.number)
        client.kill()
        await this.targets.replace(client)
      }),
      this.#every(pace.restart, signal, () => this.#restart('restart')),
      this.#every(pace.serverKill, signal, () => this.#restart('server-kill')),
      this.#every(pace.freeze, signal, async () => {
        if (this.#isAway) return
        const { pid } = server
        this.#fault('freeze', pid)
        process.kill(pid, 'SIGSTOP')
        await this.#hold(() => server.pid === pid && server.isRunning && process.kill(pid, 'SIGCONT'))
      }),
    ])
    for (const release of this.#held) release()
  }

  async #every(ms: number, signal: AbortSignal, harm: () => Promise<void>): Promise<void> {
    if (ms === 0) return
    while (await sleep(ms * (0.5 + this.random.next()), true, { signal }).catch(() => false)) await harm()
  }

  async #hold(release: () => void): Promise<void> {
    this.#held.add(release)
    await sleep(this.random.between(...HOLD_MS))
    this.#held.delete(release)
    release()
  }

  /** A busy or idle worker. Not a starting one: a pool whose workers keep dying at their start gives up, as it should. */
  async #worker(): Promise<number | undefined> {
    if (this.#isAway) return undefined
    const own = this.targets.clients.flatMap(({ workers }) => workers)
    if (this.targets.hasLocalPools || (own.length > 0 && this.random.chance(0.2))) return this.#one(own)
    try {
      const { workers } = await this.targets.shared.info()
      for (const { pid } of workers) this.#write('seen', pid)
      return this.#one(workers.filter(({ state }) => state === 'busy' || state === 'idle'))?.pid
    } catch {
      // No server answers.
      return undefined
    }
  }

  async #killWorker(): Promise<void> {
    const pid = await this.#worker()
    if (pid === undefined || pid === 0) return
    const at = now()
    if (signal(this.targets.mark, pid, 'SIGKILL')) this.#fault('kill', pid, at)
  }

  async #stopWorker(): Promise<void> {
    const pid = await this.#worker()
    if (pid === undefined || pid === 0 || !signal(this.targets.mark, pid, 'SIGSTOP')) return
    this.#fault('stop', pid)
    await this.#hold(() => signal(this.targets.mark, pid, 'SIGCONT'))
  }

  async #restart(kind: 'restart' | 'server-kill'): Promise<void> {
    if (this.#isAway) return
    this.#isAway = true
    // A stopped server could not exit.
    for (const release of this.#held) release()
    this.#fault(kind, this.targets.server.pid)
    if (kind === 'restart') {
      const code = await this.targets.server.drain()
      if (code !== 0) this.targets.server.complaints.push(`after SIGTERM the server ended with ${code}`)
    } else await this.targets.server.kill()
    await this.targets.waitUntilGone()
    await this.targets.server.start()
    this.#isAway = false
  }

  /** Resets all connections of the server, those of the clients and that of the harness. */
  async #reset(host: Host): Promise<void> {
    this.#fault('reset', 0)
    await host.reset()
  }

  #one<T>(choices: readonly T[]): T | undefined {
    return choices[Math.floor(this.random.next() * choices.length)]
  }

  #fault(kind: string, target: number, at = now()): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1
    this.#write(kind, target, at)
  }

  #write(kind: string, target: number, at = now()): void {
    appendFileSync(faultFile(this.folder), `${kind} ${at.toFixed(3)} ${target}\n`)
  }
}
