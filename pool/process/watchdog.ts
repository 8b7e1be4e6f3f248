import { readFileSync } from 'node:fs'

/** A worker that does not begin a task within so long, though it has nothing else to do, is killed; its task goes to another. */
const BEGIN_MS = 10_000

/** A worker that has been stopped (SIGSTOP) for so long is killed: nobody may ever let it go on. */
const STOPPED_MS = 5_000

const LOOK_EVERY_MS = 1_000

/** A worker that starts, or has something in hand, as the watch sees it. */
export interface Watched {
  readonly pid: number
  /** The task that it runs, or should have begun; 0 where it starts. */
  readonly task: number
  readonly started: boolean
  /** It cannot be heard now: that is not its fault. */
  readonly unheard: boolean
}

interface Suspicion {
  readonly task: number
  /** How often in a row it was seen so. */
  unbegun: number
  stopped: number
}

/**
 * Finds workers that hang without a function being at fault: one that does not begin what it was given, and one that
 * was stopped. Looks are counted, not time: a server that was asleep itself accuses nobody.
 */
export class Watch {
  readonly #suspicions = new Map<number, Suspicion>()
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly workers: () => Iterable<readonly [number, Watched]>,
    private readonly kill: (worker: number, why: string) => void,
  ) {}

  /** Looks as long as a worker starts or has something in hand. */
  start(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      if (this.#look()) this.start()
    }, LOOK_EVERY_MS).unref()
  }

  #look(): boolean {
    const seen = new Set<number>()
    for (const [worker, watched] of this.workers()) {
      seen.add(worker)
      this.#suspect(worker, watched)
    }
    for (const worker of this.#suspicions.keys()) if (!seen.has(worker)) this.#suspicions.delete(worker)
    return seen.size > 0
  }

  #suspect(worker: number, { pid, task, started, unheard }: Watched): void {
    const known = this.#suspicions.get(worker)
    const suspicion = known?.task === task ? known : { task, unbegun: 0, stopped: 0 }
    this.#suspicions.set(worker, suspicion)
    suspicion.unbegun = task === 0 || started || unheard ? 0 : suspicion.unbegun + 1
    suspicion.stopped = isStopped(pid) ? suspicion.stopped + 1 : 0
    if (suspicion.stopped * LOOK_EVERY_MS >= STOPPED_MS) this.kill(worker, 'it had been stopped by a signal (SIGSTOP)')
    else if (suspicion.unbegun * LOOK_EVERY_MS >= BEGIN_MS)
      this.kill(worker, 'it did not begin the task that it was given')
  }
}

/** Whether a process has been stopped by a signal (not by a debugger). False where the system does not say. */
function isStopped(pid: number): boolean {
  try {
    return /^\d+ \(.*\) T /s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
