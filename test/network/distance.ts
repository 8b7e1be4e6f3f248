import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const MIRROR = fileURLToPath(new URL('../../bench/mirror.py', import.meta.url))

/** A network with a round trip: packets between two addresses are delayed by netem, or by bench/mirror.py without it. */
export class Distance implements AsyncDisposable {
  private constructor(
    /** The address on which servers listen. */
    readonly listen: string,
    /** The address to which clients connect. */
    readonly connect: string,
    private readonly mirror: ReturnType<typeof spawn> | undefined,
  ) {}

  /** @returns undefined if this machine has neither netem nor tun devices. */
  static async open(eachWayMs: number): Promise<Distance | undefined> {
    const netem = ['qdisc', 'replace', 'dev', 'lo', 'root', 'netem', 'delay', `${eachWayMs}ms`, 'limit', '100000']
    if (await works('tc', netem)) return new Distance('127.0.0.1', '127.0.0.1', undefined)
    if (!(await works('ip', ['tuntap', 'add', 'dev', 'far0', 'mode', 'tun']))) return undefined
    await run('ip', ['address', 'add', '10.9.0.1/24', 'dev', 'far0'])
    await run('ip', ['link', 'set', 'far0', 'mtu', '65000', 'txqueuelen', '100000', 'up'])
    // mirror.py does not notice the end of this process. The shell kills it when standard input closes.
    const ending = 'python3 "$@" & cat <&3 >/dev/null; kill $!'
    const mirror = spawn('sh', ['-c', `exec 3<&0; ${ending}`, 'sh', MIRROR, 'far0', String(eachWayMs)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    if (mirror.stdout) await Promise.race([once(mirror.stdout, 'data'), once(mirror, 'exit')])
    return new Distance('10.9.0.1', '10.9.0.2', mirror)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.mirror) return void (await run('tc', ['qdisc', 'delete', 'dev', 'lo', 'root']))
    const exited = once(this.mirror, 'exit')
    this.mirror.stdin?.end()
    await exited
    await run('ip', ['link', 'delete', 'far0'])
  }
}

const works = (command: string, args: string[]): Promise<boolean> =>
  run(command, args).then(
    () => true,
    () => false,
  )
