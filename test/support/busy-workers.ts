import type { Scheduler, SchedulerOptions } from '../../pool/scheduler/scheduler.js'
import type { Task } from '../../pool/scheduler/task.js'
import { type Facts, ok, type Trace } from './scheduler.js'

/** Workers 1 and 2 run a task each, of a function that is known to take `ranMs`; nothing is queued. */
export function busyWorkers(
  trace: Trace,
  ranMs: number,
  facts: Facts = {},
  options: Partial<SchedulerOptions> = {},
): { scheduler: Scheduler; running: [Task, Task] } {
  const scheduler = trace.start(options)
  scheduler.ready(1)
  const first = trace.submit(scheduler, facts)
  scheduler.done(1, first.id, ok, ranMs)
  scheduler.ready(2)
  const running: [Task, Task] = [trace.submit(scheduler, facts), trace.submit(scheduler, facts)]
  trace.look()
  return { scheduler, running }
}

export const submitMany = (trace: Trace, scheduler: Scheduler, count: number, facts: Facts = {}): Task[] =>
  Array.from({ length: count }, () => trace.submit(scheduler, facts))
