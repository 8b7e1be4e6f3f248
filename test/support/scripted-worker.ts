import { PassThrough } from 'node:stream'
import type { Launcher, ProcessExit, WorkerProcess } from '../../pool/process/launcher.js'
import {
  decodeToWorker,
  FrameReader,
  type FromWorkerFrame,
  type ToWorkerFrame,
  writeFromWorker,
} from '../../wire/framing/frames.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'

/** A worker without a process, which does what a test says. It keeps to worker.proto as far as the test does. */
export class ScriptedWorker implements WorkerProcess {
  readonly input = new PassThrough()
  readonly output = new PassThrough()
  readonly stdout = new PassThrough()
  readonly stderr = new PassThrough()
  readonly exited: Promise<ProcessExit>
  readonly sharedFile = undefined
  isKilled = false
  priorityIsLow = false
  #exit: (exit: ProcessExit) => void = () => {}

  /** @param onCommand is called with each command that the pool sends. */
  constructor(
    readonly pid: number,
    onCommand: (command: ToWorkerFrame, worker: ScriptedWorker) => void,
  ) {
    this.exited = new Promise((resolve) => {
      this.#exit = resolve
    })
    const reader = new FrameReader((frame) => {
      const command = decodeToWorker(frame)
      if (command) onCommand(command, this)
    })
    // As with a socket, nothing arrives before the write has returned.
    this.input.on('data', (bytes: Buffer) => setImmediate(() => reader.push(bytes)))
  }

  report(report: FromWorkerFrame): void {
    const writer = new ProtoWriter()
    writeFromWorker(writer, report)
    this.output.write(writer.take())
  }

  exit(exitCode: number | undefined, signal?: string): void {
    this.output.end()
    this.#exit({ exitCode, signal, oom: undefined })
  }

  kill(): void {
    this.isKilled = true
    this.exit(undefined, 'SIGKILL')
  }

  release(): void {}

  lowerPriority(): void {
    this.priorityIsLow = true
  }
}

/** A worker that has one function, `echo`, and answers each task with its own first argument. */
export function echoWorker(command: ToWorkerFrame, worker: ScriptedWorker): void {
  switch (command.$case) {
    case 'init': {
      const echo = { name: 'echo', parameters: 1, module: '/m.js', retries: 0, runTimeoutMs: 0, neverKilled: false }
      return worker.report({ $case: 'ready', value: { functions: [echo], runtime: 'scripted' } })
    }
    case 'run':
      for (const { task, args } of command.value.tasks) {
        worker.report({ $case: 'started', value: { task } })
        const payload = args[0] ?? new Uint8Array()
        worker.report({ $case: 'done', value: { task, payload, failures: [], status: undefined, runMs: 1 } })
      }
      return
    case 'stop':
      return worker.exit(0)
    case 'abort':
      return
  }
}

/** Launches scripted workers. Without a script, the system has no room for a process. */
export class ScriptedLauncher implements Launcher {
  readonly workers: ScriptedWorker[] = []

  constructor(private readonly script?: (command: ToWorkerFrame, worker: ScriptedWorker) => void) {}

  launch(failed: (error: Error) => void): WorkerProcess | undefined {
    if (!this.script) {
      setImmediate(() => failed(new Error('spawn EMFILE')))
      return undefined
    }
    const worker = new ScriptedWorker(1_000 + this.workers.length, this.script)
    this.workers.push(worker)
    return worker
  }
}
