import { describe, expect, it } from 'vitest'
import { type Reports, TaskRunner } from '../../worker/task-runner.js'
import { PLAIN_RUN } from '../support/plain-run.js'
import { until } from '../support/server.js'

describe("the worker's end", () => {
  it('says that a task begins which came after the done of the one before (P6)', async () => {
    const said: string[] = []
    const run = (task: number) => ({
      ...PLAIN_RUN,
      tasks: [{ task, attempt: 1, args: [], chunk: undefined }],
    })
    const reports: Reports = {
      pending: undefined,
      send: ({ $case, value }) => {
        said.push(`${$case} ${(value as { task: number }).task}`)
        // The server answers the first done with the next task, which is read before the worker has looked up.
        if (said.length === 2) setImmediate(() => runner.add(run(2)))
      },
    }
    const call = () => {
      for (const end = performance.now() + 3; performance.now() < end; );
      return 1
    }
    const functions = new Map([
      ['f', { call, module: 'm.js', options: { retries: 0, runTimeoutMs: 0, neverKilled: false } }],
    ])
    const init = { modules: [], initializer: '', initargs: [], stacks: false, maxRssBytes: 0, maxResultBytes: 0 }
    const runner = new TaskRunner(functions, init, reports)
    runner.add(run(1))
    await until(() => said.length >= 4, 'both are done')
    await runner.idle()
    expect(said).toEqual(['started 1', 'done 1', 'started 2', 'done 2'])
  })
})
