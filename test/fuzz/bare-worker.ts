import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { decodeFromWorker, FrameReader, type FromWorkerFrame } from '../../wire/framing/frames.js'
import { endsWithin, isRunning, residentKiB } from '../chaos/processes.js'
import { initOf } from './orders.js'
import { Broken, within } from './target.js'

const START_MS = 30_000
/** How long a worker may take to end after its server has gone. */
const END_MS = 20_000

/** A real worker process whose server is this one. */
export class BareWorker {
  readonly #child: ChildProcess
  readonly #orders: Writable
  readonly #words: Readable
  #stderr = ''
  #listeners: ((word: FromWorkerFrame | undefined) => void)[] = []
  readonly ended: Promise<void>

  private constructor(build: string, env: NodeJS.ProcessEnv) {
    this.#child = spawn(process.execPath, [`${build}/server/worker/main.js`], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
      env,
    })
    this.#orders = this.#child.stdio[3] as Writable
    this.#words = this.#child.stdio[4] as Readable
    this.#child.stderr?.on('data', (text: Buffer) => {
      this.#stderr = (this.#stderr + text).slice(-4_000)
    })
    const reader = new FrameReader((frame) => {
      const word = decodeFromWorker(frame)
      for (const listener of this.#listeners) listener(word)
    })
    this.#words.on('data', (bytes: Buffer) => reader.push(bytes))
    for (const socket of [this.#orders, this.#words]) socket.on('error', () => {})
    this.ended = new Promise((resolve) => this.#child.once('close', () => resolve()))
  }

  static async start(build: string, env: NodeJS.ProcessEnv, module: string): Promise<BareWorker> {
    const worker = new BareWorker(build, env)
    const ready = worker.word(({ $case }) => $case === 'ready')
    worker.write(initOf(module))
    if (!(await within(START_MS, 'a worker is not ready', ready)))
      throw new Broken(`a worker did not start: ${worker.#stderr}`)
    return worker
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get residentKiB(): number {
    return residentKiB(this.pid)
  }

  get isRunning(): boolean {
    return isRunning(this.#child)
  }

  /** How it ended. */
  get end(): string {
    return `ended with ${this.#child.signalCode ?? this.#child.exitCode}`
  }

  write(bytes: Buffer): void {
    this.#orders.write(bytes)
  }

  /** Resolves when it says what fits: true; or when it has ended without it: false. */
  async word(fits: (word: FromWorkerFrame) => boolean): Promise<boolean> {
    let listener: (word: FromWorkerFrame | undefined) => void = () => {}
    const said = new Promise<boolean>((resolve) => {
      listener = (word) => word && fits(word) && resolve(true)
    })
    this.#listeners.push(listener)
    const isSaid = await Promise.race([said, this.ended.then(() => false)])
    this.#listeners = this.#listeners.filter((other) => other !== listener)
    return isSaid
  }

  /** Its server goes away: it has to end. */
  async leave(): Promise<void> {
    this.#orders.destroy()
    this.#words.destroy()
    if (await endsWithin(this.#child, END_MS)) return
    this.#child.kill('SIGKILL')
    throw new Broken(`a worker did not end within ${END_MS} ms after its server was gone`)
  }
}
