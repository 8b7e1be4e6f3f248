import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { endsWithin, isRunning, residentKiB } from '../chaos/processes.js'
import { clientCase } from './client-cases.js'
import type { Ask, Told } from './client-process.js'
import { StandIn } from './stand-in.js'
import { Broken, type Target } from './target.js'

const PROGRAM = fileURLToPath(new URL('client-process.js', import.meta.url))
const LANES = 64
const LOOK_MS = 200
/** A client that says nothing for so long does not come back to its event loop. */
const DEAF_MS = 20_000
const MOST_KIB = 512 * 1024
const END_MS = 5_000
/** Of so many cases it is known what was sent. */
const KEPT = 200

/** Mutated answers of a server to the real client. */
export class Client implements Target {
  readonly lanes = LANES
  readonly memory = { fromKib: 0, mostKib: 0 }
  readonly #child: ChildProcess
  readonly #standIns: StandIn[] = []
  readonly #free: number[] = []
  readonly #waiting = new Map<number, (told: Told & { what: 'done' }) => void>()
  /** What was sent in the last cases. */
  readonly #sent = new Map<number, Buffer>()
  readonly #watch: NodeJS.Timeout
  #stderr = ''
  #fault: string | undefined
  #heard = performance.now()

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
    this.#child.on('message', (told: Told) => this.#hear(told))
    // `close` comes after the last word on standard error.
    this.#child.once('close', (code, signal) =>
      this.#gone(`the client ended with ${signal ?? code}: ${this.#stderr.trim()}`),
    )
    this.#watch = setInterval(() => this.#look(), LOOK_MS)
  }

  static async start(seed: number, build: string, env: NodeJS.ProcessEnv): Promise<Client> {
    const client = new Client(seed, build, env)
    await once(client.#child, 'message')
    for (let lane = 0; lane < LANES; lane++) {
      client.#standIns.push(await StandIn.start())
      client.#free.push(lane)
    }
    client.memory.fromKib = residentKiB(client.#child.pid ?? 0)
    return client
  }

  /** Of a case that was played: it depends on what was asked. */
  bytes(number: number): Buffer {
    return this.#sent.get(number) ?? Buffer.alloc(0)
  }

  check(): void {
    if (this.#fault !== undefined) throw new Broken(this.#fault)
  }

  async play(number: number): Promise<string> {
    const lane = this.#free.pop()
    const standIn = lane === undefined ? undefined : this.#standIns[lane]
    if (lane === undefined || !standIn) throw new Error('there are more cases at a time than lanes')
    const { address } = standIn
    try {
      // So that each case begins with the same, whatever was before it.
      await this.#ask({ what: 'verify', lane, number, address })
      standIn.begin(clientCase(this.seed, number))
      const answer = await this.#ask({ what: 'play', lane, number, address })
      standIn.end()
      await this.#ask({ what: 'verify', lane, number, address })
      return answer
    } finally {
      this.#sent.set(number, standIn.sent)
      this.#sent.delete(number - KEPT)
      this.#free.push(lane)
    }
  }

  /** Each case has been verified. */
  async prove(): Promise<void> {
    this.check()
  }

  async rest(): Promise<void> {
    this.check()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#watch)
    this.#fault ??= 'it is over'
    if (this.#child.connected) this.#child.disconnect()
    if (!(await endsWithin(this.#child, END_MS))) this.#child.kill('SIGKILL')
    for (const standIn of this.#standIns) await standIn[Symbol.asyncDispose]()
  }

  /** What the client has to say; where it is gone, nothing. */
  async #ask(ask: Ask): Promise<string> {
    if (!isRunning(this.#child) || !this.#child.connected) return ''
    const told = await new Promise<Told & { what: 'done' }>((resolve) => {
      this.#waiting.set(ask.lane, resolve)
      this.#child.send(ask, () => {})
    })
    if (told.broken !== undefined) throw new Broken(told.broken)
    return told.answer
  }

  #hear(told: Told): void {
    this.#heard = performance.now()
    if (told.what === 'beat') return
    const resolve = this.#waiting.get(told.lane)
    this.#waiting.delete(told.lane)
    resolve?.(told)
  }

  #look(): void {
    const kib = residentKiB(this.#child.pid ?? 0)
    this.memory.mostKib = Math.max(this.memory.mostKib, kib)
    if (kib > this.memory.fromKib + MOST_KIB) this.#end(`the client takes ${kib >> 10} MiB`)
    if (performance.now() - this.#heard > DEAF_MS) this.#end(`the client did nothing for ${DEAF_MS} ms`)
  }

  #end(why: string): void {
    this.#fault ??= why
    this.#child.kill('SIGKILL')
  }

  /** Nobody waits for it any more. */
  #gone(why: string): void {
    this.#fault ??= why
    for (const [lane, resolve] of [...this.#waiting]) {
      this.#waiting.delete(lane)
      resolve({ what: 'done', lane, answer: '' })
    }
  }
}
