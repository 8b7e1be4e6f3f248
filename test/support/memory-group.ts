import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const CGROUPS = '/sys/fs/cgroup'
const MIB = 1024 * 1024

/** Removes the group after this process has closed its standard input or died, as soon as no process is in the group. */
const UNDERTAKER = `
cat >/dev/null
for _ in $(seq 600); do
  rmdir "$1" 2>/dev/null && exit 0
  sleep 0.05
done
exit 1
`

let made = 0

/** A control group (cgroup, version 1 or 2) with little memory. The kernel kills processes that use more. */
export class MemoryGroup implements AsyncDisposable {
  readonly #folder: string
  readonly #undertaker: ReturnType<typeof spawn>

  constructor(mib: number) {
    this.#folder = makeFolder()
    this.#undertaker = spawn('/bin/sh', ['-c', UNDERTAKER, 'sh', this.#folder], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    })
    // The kernel accepts them in this order only. A file that does not exist belongs to the other version.
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

  /** The prefix of a command that makes it run in the group. */
  get prefix(): string[] {
    return ['/bin/sh', '-c', 'echo $$ >"$0" && exec "$@"', join(this.#folder, 'cgroup.procs')]
  }

  /** Call it after the processes of the group have exited. */
  async [Symbol.asyncDispose](): Promise<void> {
    const exited = once(this.#undertaker, 'exit')
    this.#undertaker.stdin?.end()
    const [code] = await exited
    if (code !== 0) throw new Error(`the group ${this.#folder} could not be removed: something runs in it`)
  }
}

/** Makes a group below one with the memory controller. Throws if there is none, or this process may not make one. */
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

/** The reason why no group can be made here, as the end of a test name. Empty if one can be made. */
export function whyNoMemoryGroup(): string {
  try {
    rmdirSync(makeFolder())
    return ''
  } catch (error) {
    return ` (not here: it needs a memory cgroup, and ${error instanceof Error ? error.message : error})`
  }
}
