import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { check, type Verdict } from './check.js'
import { TrafficClient } from './client.js'
import { clientOfBuild } from './farpool.js'
import { clientEvents, clientFile, executionEvents, faults } from './history.js'
import { median, replacements, slope, startBareWorker, watchMemory } from './measure.js'
import { Nemesis, type Pace } from './nemesis.js'
import type { Host } from './network.js'
import type { Options } from './options.js'
import { leftAfter } from './processes.js'
import { Random } from './random.js'
import { Relay } from './relay.js'
import { ServerUnderTest } from './server.js'
import type { Stage } from './stage.js'

export interface ChaosReport extends Verdict {
  seed: number
  seconds: number
  faults: Record<string, number>
  /** The time from the kill of a worker to the first result of its replacement. */
  replacementMs: { count: number; median: number; worst: number }
  /** The time that a worker without a server needs to start. */
  bareWorkerMs: { count: number; median: number; worst: number }
  /** Tasks per second before the rate was halved; only of a soak. */
  capacity: number | undefined
  serverMemory: { kibPerMinute: number; fromKib: number; toKib: number; samples: number }
  /** Faults beside the rules: errors in the server's log, clients that did not finish. */
  complaints: string[]
}

const DRAIN_MS = 2_000
const MEMORY_MS = 500
const BARE_MS = 5_000
const CAPACITY_MS = 5_000
const CHECK_EVERY_MS = 50
/** The time for the processes of a killed server to end, and for the server to become idle at the end. */
const GONE_MS = 10_000

/** The main scenario: clients make calls to a server while the nemesis injects faults; then the history is checked. */
export class Chaos {
  readonly #server: ServerUnderTest
  readonly #clients: TrafficClient[] = []
  readonly #remains: string[] = []
  readonly #complaints: string[] = []
  #nextClient = 0
  /** The items of killed clients. */
  #issuedByKilled = 0
  /** Items per second of all clients together; 0: no limit. */
  #rate = 0

  constructor(
    private readonly options: Options,
    private readonly build: string,
    private readonly stage: Stage,
    private readonly host: Host | undefined,
  ) {
    const { processes } = options
    this.#server = new ServerUnderTest({
      build,
      listen: host ? `${host.address}:0` : `unix:${stage.socket}`,
      args: host ? ['--insecure'] : [],
      prefix: host?.prefix ?? [],
      processes,
      drainMs: DRAIN_MS,
      env: { ...stage.env, CHAOS_SERVER: stage.id },
    })
  }

  get issued(): number {
    return this.#clients.reduce((sum, { issued }) => sum + issued, this.#issuedByKilled)
  }

  async run(pace: Pace, seconds: number, isSoak = false): Promise<ChaosReport> {
    const { options, build, stage } = this
    const from = performance.now()
    await this.#server.start()
    for (let client = 0; client < options.clients; client++) this.#clients.push(await this.#client())
    const { Pool } = await clientOfBuild(build)
    const shared = new Pool(this.#server.address)
    const random = new Random(options.seed, 0x6e656d65)
    const targets = {
      hasLocalPools: options.local,
      mark: stage.mark,
      server: this.#server,
      shared,
      clients: this.#clients,
      host: this.host,
      replace: async (client: TrafficClient) => {
        this.#issuedByKilled += client.issued
        this.#clients[this.#clients.indexOf(client)] = await this.#client()
        await client.relay?.[Symbol.asyncDispose]()
      },
      waitUntilGone: async () => void this.#remains.push(...(await leftAfter(this.#mark, GONE_MS))),
    }
    const nemesis = new Nemesis(stage.folder, targets, random)
    const memory = watchMemory(this.#server, MEMORY_MS)
    const over = new AbortController()
    const bare = this.#startBareWorkers(over.signal)
    const harm = nemesis.run(pace, over.signal)
    harm.catch(() => over.abort())
    const capacity = isSoak ? await this.#halveRate() : undefined
    const until = performance.now() + seconds * 1_000
    while (!over.signal.aborted && performance.now() < until && (isSoak || this.issued < options.tasks))
      await sleep(CHECK_EVERY_MS)
    over.abort()
    await harm
    const unfinished = await Promise.all(this.#clients.map((client) => client.finish(options.settle * 1_000)))
    for (const why of unfinished) if (why) this.#complaints.push(why)
    await this.#checkAtRest(shared)
    await shared.terminate()
    const bareMs = await bare
    memory.stop()
    const code = await this.#server.drain()
    if (code !== 0) this.#remains.push(`after SIGTERM the server ended with ${code}`)
    for (const { relay } of this.#clients) await relay?.[Symbol.asyncDispose]()
    this.#remains.push(...(await stage.remains()))
    const all = faults(stage.folder)
    const replacedMs = replacements(all, executionEvents(stage.folder))
    const verdict = check({
      faults: all,
      clients: histories(stage.folder),
      executions: executionEvents(stage.folder),
      remains: this.#remains,
    })
    return {
      seed: options.seed,
      seconds: (performance.now() - from) / 1_000,
      ...verdict,
      faults: nemesis.counts,
      capacity,
      replacementMs: { count: replacedMs.length, median: median(replacedMs), worst: Math.max(...replacedMs) },
      /** The time that a worker without a server needs to start. */
      bareWorkerMs: { count: bareMs.length, median: median(bareMs), worst: Math.max(...bareMs) },
      serverMemory: { ...slope(memory.samples), samples: memory.samples.length },
      complaints: [...this.#complaints, ...this.#server.complaints],
    }
  }

  /** Measures the capacity, then sets the rate of the clients to half of it. */
  async #halveRate(): Promise<number> {
    // Warm up.
    await sleep(CAPACITY_MS)
    const before = this.issued
    await sleep(CAPACITY_MS)
    const capacity = ((this.issued - before) * 1_000) / CAPACITY_MS
    this.#rate = capacity / 2
    for (const client of this.#clients) client.send({ type: 'rate', rate: this.#rate / this.#clients.length })
    return capacity
  }

  /** The mark of the server's own processes. The clients do not have it. */
  get #mark(): string {
    return `CHAOS_SERVER=${this.stage.id}`
  }

  async #client(): Promise<TrafficClient> {
    const { options, build, stage } = this
    // No relay if the server has its own host: the relay would be on the client's side of the cable.
    const relay = this.host ? undefined : await Relay.open({ path: stage.socket })
    const traffic = {
      client: this.#nextClient++,
      address: relay?.address ?? this.#server.address,
      seed: options.seed,
      folder: stage.folder,
      build,
      lanes: options.lanes,
      owned: true,
      plain: false,
      localProcesses: options.local ? options.processes : 0,
      rate: this.#rate / options.clients,
    }
    return new TrafficClient(traffic, relay, stage.env)
  }

  /** Measures every BARE_MS how long a worker needs to start on this busy machine. */
  async #startBareWorkers(signal: AbortSignal): Promise<number[]> {
    const times: number[] = []
    while (await sleep(BARE_MS, true, { signal }).catch(() => false)) {
      times.push(await startBareWorker(this.build, this.stage.env))
    }
    return times
  }

  /** Without clients nothing may be queued or running, and every submitted task must have been counted once. */
  async #checkAtRest(shared: { info(): Promise<{ queued: number; running: number; tasks: Record<string, number> }> }) {
    try {
      const until = performance.now() + GONE_MS
      for (;;) {
        const { queued, running, tasks } = await shared.info()
        const { submitted = 0, succeeded = 0, failed = 0, cancelled = 0, timedOut = 0 } = tasks
        if (queued === 0 && running === 0 && submitted === succeeded + failed + cancelled + timedOut) return
        if (performance.now() > until) {
          this.#remains.push(`tasks in the server: ${queued} queued, ${running} running; ${JSON.stringify(tasks)}`)
          return
        }
        await sleep(CHECK_EVERY_MS)
      }
    } catch (error) {
      this.#remains.push(`the server did not answer GetPool: ${error}`)
    }
  }
}

/** The events of all clients. */
export function* histories(folder: string) {
  for (const name of readdirSync(folder)) {
    const client = /^client-(\d+)\.history$/.exec(name)?.[1]
    if (client !== undefined) yield [Number(client), clientEvents(clientFile(folder, Number(client)))] as const
  }
}
