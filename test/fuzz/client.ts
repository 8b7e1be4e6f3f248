import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { endsWithin, isRunning, residentKiB } from '../chaos/processes.js'
import { clientCase } from './client-cases.js'
import type { ClientCommand, ClientReport } from './client-process.js'
import { FakeServer } from './fake-server.js'
import { Broken, type Target } from './target.js'

const PROGRAM = fileURLToPath(new URL('client-process.js', import.meta.url))
const LANES = 64
const CHECK_EVERY_MS = 200
/** A client without a heartbeat for this time blocks its event loop. */
const BLOCKED_MS = 20_000
const MOST_KIB = 512 * 1024
const END_MS = 5_000
/** The number of latest cases whose bytes are kept. */
const KEPT = 200

/** Mutated replies of a server to the real client. */
export class Client implements Target {
  readonly lanes = LANES
  readonly memory = { fromKib: 0, mostKib: 0 }
  readonly #child: ReturnType<typeof spawn>
  readonly #servers: FakeServer[] = []
  readonly #free: number[] = []
  readonly #waiting = new Map<number, (report: ClientReport & { type: 'done' }) => void>()
  /** The bytes of the latest cases. */
  readonly #sent = new Map<number, Buffer>()
  readonly #watch: NodeJS.Timeout
  #stderr = ''
  #fault: string | undefined
  #lastReport = performance.now()

  private constructor(
    private readonly seed: number,
    build: string,
    env: NodeJS.ProcessEnv,
  ) {
    this.#child = spawn(process.execPath, [PROGRAM, build, String(seed)], {
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
      env,
    })
    this.#child.stderr?.on('data', (text: Buffer) => {
      this.#stderr = (this.#stderr + text).slice(-4_000)
    })
    this.#child.on('message', (report: ClientReport) => this.#receive(report))
    // Unlike `exit`, `close` comes after all of standard error.
    this.#child.once('close', (code, signal) =>
      this.#onExit(`the client ended with ${signal ?? code}: ${this.#stderr.trim()}`),
    )
    this.#watch = setInterval(() => this.#checkProcess(), CHECK_EVERY_MS)
  }

  static async start(seed: number, build: string, env: NodeJS.ProcessEnv): Promise<Client> {
    const client = new Client(seed, build, env)
    await once(client.#child, 'message')
    for (let lane = 0; lane < LANES; lane++) {
      client.#servers.push(await FakeServer.start())
      client.#free.push(lane)
    }
    client.memory.fromKib = residentKiB(client.#child.pid ?? 0)
    return client
  }

  /** The bytes of a case that has been played. They depend on the client's requests. */
  bytes(number: number): Buffer {
    return this.#sent.get(number) ?? Buffer.alloc(0)
  }

  check(): void {
    if (this.#fault !== undefined) throw new Broken(this.#fault)
  }

  async play(number: number): Promise<string> {
    const lane = this.#free.pop()
    const server = lane === undefined ? undefined : this.#servers[lane]
    if (lane === undefined || !server) throw new Error('more cases run at a time than there are lanes')
    const { address } = server
    try {
      // Each case begins with a working connection, whatever the case before did.
      await this.#run({ type: 'verify', lane, number, address })
      server.begin(clientCase(this.seed, number))
      const answer = await this.#run({ type: 'play', lane, number, address })
      server.end()
      await this.#run({ type: 'verify', lane, number, address })
      return answer
    } finally {
      this.#sent.set(number, server.sent)
      this.#sent.delete(number - KEPT)
      this.#free.push(lane)
    }
  }

  /** Nothing to do: play() verifies each case. */
  async prove(): Promise<void> {
    this.check()
  }

  async rest(): Promise<void> {
    this.check()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#watch)
    this.#fault ??= 'the run has ended'
    if (this.#child.connected) this.#child.disconnect()
    if (!(await endsWithin(this.#child, END_MS))) this.#child.kill('SIGKILL')
    for (const server of this.#servers) await server[Symbol.asyncDispose]()
  }

  /** Sends a command. Resolves with the answer, or with '' if the client has ended. Throws Broken for a broken rule. */
  async #run(command: ClientCommand): Promise<string> {
    if (!isRunning(this.#child) || !this.#child.connected) return ''
    const report = await new Promise<ClientReport & { type: 'done' }>((resolve) => {
      this.#waiting.set(command.lane, resolve)
      this.#child.send(command, () => {})
    })
    if (report.broken !== undefined) throw new Broken(report.broken)
    return report.answer
  }

  #receive(report: ClientReport): void {
    this.#lastReport = performance.now()
    if (report.type === 'heartbeat') return
    const resolve = this.#waiting.get(report.lane)
    this.#waiting.delete(report.lane)
    resolve?.(report)
  }

  #checkProcess(): void {
    const kib = residentKiB(this.#child.pid ?? 0)
    this.memory.mostKib = Math.max(this.memory.mostKib, kib)
    if (kib > this.memory.fromKib + MOST_KIB) this.#kill(`the client takes ${kib >> 10} MiB`)
    if (performance.now() - this.#lastReport > BLOCKED_MS)
      this.#kill(`the client sent no heartbeat for ${BLOCKED_MS} ms`)
  }

  #kill(why: string): void {
    this.#fault ??= why
    this.#child.kill('SIGKILL')
  }

  /** The client has ended: all open commands end too. */
  #onExit(why: string): void {
    this.#fault ??= why
    for (const [lane, resolve] of [...this.#waiting]) {
      this.#waiting.delete(lane)
      resolve({ type: 'done', lane, answer: '' })
    }
  }
}
