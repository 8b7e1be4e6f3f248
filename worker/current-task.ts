/** What a function can learn about the task that it runs in. */
export interface Task {
  /** The task's number in its pool. */
  readonly id: number
  /** 1 for the first try, 2 for the first retry after a crash, … */
  readonly attempt: number
  /**
   * Fires when the caller has given up: the call was cancelled, its deadline passed, its client died, its pool was
   * terminated. A function that ends soon after keeps its process; one that does not is killed after the grace.
   */
  readonly signal: AbortSignal
}

/** A Task while it runs. The signal is made when it is first asked for: most functions never do. */
export class RunningTask implements Task {
  #controller: AbortController | undefined
  #aborted: string | undefined

  constructor(
    readonly id: number,
    readonly attempt: number,
    private readonly onProgress: (task: number, items: number) => void,
  ) {}

  /** So many items of a chunk have ended. */
  progress(items: number): void {
    this.onProgress(this.id, items)
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#aborted !== undefined && !this.#controller.signal.aborted)
      this.#controller.abort(abortError(this.#aborted))
    return this.#controller.signal
  }

  get aborted(): boolean {
    return this.#aborted !== undefined
  }

  abort(reason: string): void {
    this.#aborted = reason
    this.#controller?.abort(abortError(reason))
  }
}

const abortError = (reason: string) => new DOMException(`the caller has given up: ${reason}`, 'AbortError')

// One per process, also when a user's module finds another copy of farpool than the one that started the worker.
const KEY = Symbol.for('farpool.worker.task')
const holder = globalThis as { [KEY]?: Task | undefined }

export const setCurrentTask = (task: Task | undefined): void => {
  holder[KEY] = task
}

/**
 * The task that is running in this worker process. A process runs one task at a time, so there is no doubt which.
 *
 * @throws Error outside a worker, or while none is running (when a module is loaded, in an initializer).
 */
export function currentTask(): Task {
  const task = holder[KEY]
  if (!task) throw new Error('currentTask() was called where no farpool task is running')
  return task
}
