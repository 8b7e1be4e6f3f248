import { readFileSync } from 'node:fs'

const LOOK_EVERY_MS = 1_000

/** A worker that has not begun its task after this time, though it has nothing else to do, is killed. The task goes elsewhere. */
export const BEGIN_MS = 10_000

/** A worker that has been stopped (SIGSTOP) for this long is killed: nobody may ever let it continue. */
const STOPPED_MS = 5_000

/** A worker that is starting, or has a task, as the watchdog sees it. */
export interface WatchedWorker {
  readonly pid: number
  /** Its current task; 0 while it starts. */
  readonly task: number
  readonly started: boolean
  /** Its reports are not being read now, so it cannot be blamed for silence. */
  readonly isPaused: boolean
}

/** Looks in a row at which a worker was found in a suspicious state, with the same task. */
interface Suspicion {
  readonly task: number
  notBegun: number
  stopped: number
}

/**
 * Kills workers that hang without any function being at fault: a worker that does not begin its task, and one that was
 * stopped. It counts looks, not time: a process that was asleep itself suspects nobody.
 */
export class Watchdog {
  readonly #suspicions = new Map<number, Suspicion>()
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly workers: () => Iterable<readonly [number, WatchedWorker]>,
    private readonly kill: (worker: number, why: string) => void,
  ) {}

  /** Looks every second from now on. The timer does not keep the program alive. */
  start(): void {
    this.#timer ??= setInterval(() => this.#look(), LOOK_EVERY_MS).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #look(): void {
    const seen = new Set<number>()
    for (const [worker, watched] of this.workers()) {
      seen.add(worker)
      this.#check(worker, watched)
    }
    for (const worker of this.#suspicions.keys()) if (!seen.has(worker)) this.#suspicions.delete(worker)
  }

  #check(worker: number, { pid, task, started, isPaused }: WatchedWorker): void {
    const known = this.#suspicions.get(worker)
    const suspicion = known?.task === task ? known : { task, notBegun: 0, stopped: 0 }
    this.#suspicions.set(worker, suspicion)
    suspicion.notBegun = task === 0 || started || isPaused ? 0 : suspicion.notBegun + 1
    suspicion.stopped = isStopped(pid) ? suspicion.stopped + 1 : 0
    if (suspicion.stopped * LOOK_EVERY_MS >= STOPPED_MS) this.kill(worker, 'it had been stopped by a signal (SIGSTOP)')
    else if (suspicion.notBegun * LOOK_EVERY_MS >= BEGIN_MS) {
      this.kill(worker, 'it did not begin the task that it was given')
    }
  }
}

/** Whether a signal has stopped the process (not a debugger). False if the system does not say. */
function isStopped(pid: number): boolean {
  try {
    return /^\d+ \(.*\) T /s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
