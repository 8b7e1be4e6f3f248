import { spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { decodeFromWorker, FrameReader, type FromWorkerFrame } from '../../wire/framing/frames.js'
import { endsWithin, isRunning, residentKiB } from '../chaos/processes.js'
import { Broken, within } from './target.js'
import { initCommand } from './worker-commands.js'

const START_MS = 30_000
/** The time that a worker may need to end after its server has gone. */
const END_MS = 20_000

/** A real worker process; the fuzzer plays its server. */
export class BareWorker {
  readonly #child: ReturnType<typeof spawn>
  readonly #commands: Writable
  readonly #reports: Readable
  #stderr = ''
  #listeners: ((report: FromWorkerFrame | undefined) => void)[] = []
  readonly ended: Promise<void>

  private constructor(build: string, env: NodeJS.ProcessEnv) {
    this.#child = spawn(process.execPath, [`${build}/worker/worker-main.js`], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
      env,
    })
    this.#commands = this.#child.stdio[3] as Writable
    this.#reports = this.#child.stdio[4] as Readable
    this.#child.stderr?.on('data', (text: Buffer) => {
      this.#stderr = (this.#stderr + text).slice(-4_000)
    })
    const reader = new FrameReader((frame) => {
      const report = decodeFromWorker(frame)
      for (const listener of this.#listeners) listener(report)
    })
    this.#reports.on('data', (bytes: Buffer) => reader.push(bytes))
    for (const socket of [this.#commands, this.#reports]) socket.on('error', () => {})
    this.ended = new Promise((resolve) => this.#child.once('close', () => resolve()))
  }

  static async start(build: string, env: NodeJS.ProcessEnv, module: string): Promise<BareWorker> {
    const worker = new BareWorker(build, env)
    const ready = worker.reports(({ $case }) => $case === 'ready')
    worker.write(initCommand(module))
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

  /** How the process ended, as text. */
  get end(): string {
    return `ended with ${this.#child.signalCode ?? this.#child.exitCode}`
  }

  write(bytes: Buffer): void {
    this.#commands.write(bytes)
  }

  /** Resolves with true when the worker sends a report that fits, with false when it ends without one. */
  async reports(fits: (report: FromWorkerFrame) => boolean): Promise<boolean> {
    let listener: (report: FromWorkerFrame | undefined) => void = () => {}
    const sent = new Promise<boolean>((resolve) => {
      listener = (report) => report && fits(report) && resolve(true)
    })
    this.#listeners.push(listener)
    const isSent = await Promise.race([sent, this.ended.then(() => false)])
    this.#listeners = this.#listeners.filter((other) => other !== listener)
    return isSent
  }

  /** Closes the connection to the worker, as when its server dies. The worker has to end. */
  async leave(): Promise<void> {
    this.#commands.destroy()
    this.#reports.destroy()
    if (await endsWithin(this.#child, END_MS)) return
    this.#child.kill('SIGKILL')
    throw new Broken(`a worker did not end within ${END_MS} ms after its server was gone`)
  }
}
