import type { Done, Run } from '../../proto/gen/farpool/worker/v1/worker.js'
import { Failure, statusToFailure } from '../../wire/failure.js'
import { failed, type Job, type Outcome, type Task } from './task.js'

/** Messages for tasks, in order: those of one job share one. */
export function runsOf(tasks: readonly Task[], beginBy: number): Run[] {
  const runs: Run[] = []
  let job: Job | undefined
  for (const task of tasks) {
    if (task.job !== job) runs.push(runOf(task.job, beginBy))
    job = task.job
    const { id, attempt, ownArgs, chunk } = task
    runs.at(-1)?.tasks.push({ task: id, attempt, args: ownArgs as Uint8Array[], chunk })
  }
  return runs
}

const runOf = (job: Job, beginBy: number): Run => ({
  function: job.function,
  args: job.args as Uint8Array[],
  kwargs: job.kwargs,
  spread: job.spread,
  replyKind: job.replyKind,
  failFast: job.failFast,
  tasks: [],
  beginBy,
})

/** What a worker says that became of a task. */
export function outcomeOf(done: Done): Outcome {
  if (done.status) return failed(statusToFailure(done.status))
  if (!done.payload) return failed(new Failure('INTERNAL', 'the worker sent neither a result nor a failure'))
  const failures = done.failures.map(({ item, status }) => ({
    item,
    failure: status ? statusToFailure(status) : new Failure('INTERNAL', 'the worker sent a failure without a status'),
  }))
  return { ok: true, payload: done.payload, failures }
}
