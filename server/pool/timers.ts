import { monotonic } from '../../wire/clock.js'
import { Failure } from '../../wire/failure.js'
import { MAX_TIMER_MS } from '../../wire/limits.js'
import type { Task } from './task.js'

/** How long a task may wait, and how long it may run: a task has one timer at a time. */
export class TaskTimers {
  constructor(private readonly end: (task: Task, reason: Failure) => void) {}

  /** It waits for a worker: until its time is over since it was accepted, or since its last try crashed. */
  waits(task: Task): void {
    clearTimeout(task.timer)
    const { queueTimeoutMs } = task.job
    if (queueTimeoutMs === 0) return
    task.waitsUntil ||= monotonic() + queueTimeoutMs
    this.#set(task, 'queued', queueTimeoutMs, task.waitsUntil - monotonic())
  }

  began(task: Task): void {
    clearTimeout(task.timer)
    const { runTimeoutMs } = task.job
    if (runTimeoutMs > 0) this.#set(task, 'running', runTimeoutMs, runTimeoutMs)
  }

  #set(task: Task, phase: 'queued' | 'running', limitMs: number, leftMs: number): void {
    if (leftMs > MAX_TIMER_MS) return
    task.timer = setTimeout(() => this.end(task, late(phase, limitMs)), leftMs)
  }
}

const late = (phase: 'queued' | 'running', ms: number): Failure =>
  new Failure('TASK_TIMEOUT', `the task was ${phase} for ${ms} ms, which is as long as it may be`, {
    metadata: { phase, limit_ms: String(ms) },
  })
