import { cpSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

export interface Bug {
  readonly from: string
  readonly to: string
  readonly what: string
}

/** Bugs that the harness must find. Each replaces the first occurrence of `from` in each file of the build that has it. */
export const BUGS = {
  'drop-outcome': {
    from: 'task.settle(outcome);',
    to: 'if (task.id % 101 !== 0) task.settle(outcome);',
    what: 'some tasks are never settled',
  },
  'rerun-started': {
    from: 'if (task.started) this.#crashed',
    to: 'if (false) this.#crashed',
    what: 'a task whose worker died runs again, although it had started',
  },
  'deaf-kill': {
    from: 'process.kill(-leader, "SIGKILL")',
    to: 'true',
    what: 'workers are not killed',
  },
  'no-reaper': {
    from: 'kill -9 "-$pid"',
    to: ':',
    what: 'the orphan reaper does not kill the workers of a killed server',
  },
  'no-turns': {
    from: 'this.#open(task.job.client).push(task);',
    to: 'this.#open((globalThis.everybody ??= task.job.client)).push(task);',
    what: 'all clients share one queue; npm run neighbour finds this, npm run chaos does not',
  },
} as const satisfies Record<string, Bug>
export type BugName = keyof typeof BUGS

/** Copies the build and plants a bug. Returns the copy. Throws if the code to change is not in the file. */
export function plant(build: string, name: string, folder: string): string {
  const bug: Bug | undefined = BUGS[name as BugName]
  if (!bug) throw new Error(`there is no bug ${name}; the bugs are ${Object.keys(BUGS).join(', ')}`)
  return plantBug(build, bug, folder)
}

/** Plants any bug, like plant(). Creates the folder. */
export function plantBug(build: string, bug: Bug, folder: string): string {
  const copy = join(folder, 'dist')
  cpSync(build, copy, { recursive: true })
  cpSync(join(dirname(build), 'package.json'), join(folder, 'package.json'))
  for (const name of ['node_modules', 'proto']) symlinkSync(join(dirname(build), name), join(folder, name))
  const files = readdirSync(copy, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js'))
  let planted = false
  for (const file of files.map((name) => join(copy, name))) {
    const code = readFileSync(file, 'utf8')
    if (!code.includes(bug.from)) continue
    writeFileSync(file, code.replace(bug.from, bug.to))
    planted = true
  }
  if (!planted) throw new Error(`no file of the build has ${JSON.stringify(bug.from)} to change`)
  return copy
}
