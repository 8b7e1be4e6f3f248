/** The facts about the running task that its function can ask for. */
export interface Task {
  /** The number of the task in its pool. */
  readonly id: number
  /** 1 for the first attempt, 2 for the first retry after a crash, and so on. */
  readonly attempt: number
  /**
   * Fires when the task is no longer wanted: the call was cancelled, its deadline passed, its client died, or its pool was
   * terminated. A function that ends soon afterwards keeps its process. Otherwise the server kills the process after its
   * grace.
   */
  readonly signal: AbortSignal
}

const KEY = Symbol.for('farpool.worker.current')
const shared = globalThis as { [KEY]?: { task: Task | undefined } }

/**
 * Holds the running task; undefined between tasks. It is on globalThis because the modules of a user may import another copy
 * of farpool than the one that runs the worker.
 */
export const current: { task: Task | undefined } = shared[KEY] ?? { task: undefined }
shared[KEY] = current

/**
 * The task that runs in this worker process. A process runs only one task at a time.
 *
 * @throws Error outside of a worker, while a module is loaded, and in an initializer.
 */
export function currentTask(): Task {
  if (!current.task) throw new Error('currentTask() was called while no farpool task is running')
  return current.task
}
