import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const CGROUPS = '/sys/fs/cgroup'
const MIB = 1024 * 1024

/** Removes the group when this process lets go of it, or is killed: as soon as nothing runs in it any more. */
const UNDERTAKER = `
cat >/dev/null
for _ in $(seq 600); do
  rmdir "$1" 2>/dev/null && exit 0
  sleep 0.05
done
exit 1
`

let made = 0

/** A control group (cgroup, version 1 or 2) in which there is little memory: what takes more, the kernel ends. */
export class MemoryGroup implements AsyncDisposable {
  readonly #folder: string
  readonly #undertaker: ChildProcess

  constructor(mib: number) {
    this.#folder = makeFolder()
    this.#undertaker = spawn('/bin/sh', ['-c', UNDERTAKER, 'sh', this.#folder], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    })
    // In the order in which the kernel lets them be set; what there is no file for has no limit of its own.
    for (const [name, value] of [
      ['memory.max', mib * MIB],
      ['memory.swap.max', 0],
      ['memory.limit_in_bytes', mib * MIB],
      ['memory.memsw.limit_in_bytes', mib * MIB],
    ] as const) {
      const file = join(this.#folder, name)
      if (existsSync(file)) writeFileSync(file, String(value))
    }
  }

  /** What to put before a command, so that it runs in the group. */
  get prefix(): string[] {
    return ['/bin/sh', '-c', 'echo $$ >"$0" && exec "$@"', join(this.#folder, 'cgroup.procs')]
  }

  /** When what ran in it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    const exited = once(this.#undertaker, 'exit')
    this.#undertaker.stdin?.end()
    const [code] = await exited
    if (code !== 0) throw new Error(`the group ${this.#folder} could not be removed: something runs in it`)
  }
}

/** A group below one that gives memory to those below it; throws where there is none, or it may not be made. */
function makeFolder(): string {
  const parents = ['/proc/self/cgroup', '/proc/1/cgroup'].flatMap((file) => parentsIn(readFileSync(file, 'utf8')))
  const parent = [...parents, CGROUPS].find(givesMemory)
  if (parent === undefined) throw new Error('no control group gives memory to groups below it')
  const folder = join(parent, `farpool-test-${process.pid}-${++made}`)
  mkdirSync(folder)
  return folder
}

const parentsIn = (groups: string): string[] =>
  groups.split('\n').flatMap((line) => {
    const [, controllers, ...path] = line.split(':')
    if (controllers === '') return [join(CGROUPS, path.join(':'))]
    return controllers?.split(',').includes('memory') ? [join(CGROUPS, 'memory', path.join(':'))] : []
  })

const givesMemory = (folder: string): boolean =>
  existsSync(join(folder, 'memory.limit_in_bytes')) ||
  (existsSync(join(folder, 'cgroup.subtree_control')) &&
    readFileSync(join(folder, 'cgroup.subtree_control'), 'utf8').includes('memory'))

/** Why no group can be made here, to be read behind the name of a test; empty where one can. */
export function whyNoMemoryGroup(): string {
  try {
    rmdirSync(makeFolder())
    return ''
  } catch (error) {
    return ` (not here: it needs a memory cgroup, and ${error instanceof Error ? error.message : error})`
  }
}
