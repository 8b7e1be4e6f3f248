import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * A machine of its own, as far as the network goes: a network namespace, joined to that of this process by a cable that
 * can be pulled. This process's own must be one that nobody else uses (test/network/run.sh makes it). All of it is held by
 * processes only: when they have ended, however that came, nothing is left of it.
 *
 *       other hosts ──┐
 *     this process  10.9.N.1 ──── cable ──── 10.9.N.2  host N
 */
export class Host implements AsyncDisposable {
  /** Of the host; it can be reached from this process, and from other hosts. */
  readonly address: string
  /** What to put before a command, so that it runs on the host. */
  readonly prefix: readonly string[]
  readonly #router: string
  /** This end of the cable. */
  readonly #near: string

  private constructor(
    number: number,
    private readonly keeper: ChildProcess,
  ) {
    this.address = `10.9.${number}.2`
    this.#router = `10.9.${number}.1`
    this.#near = `near${number}`
    this.prefix = ['nsenter', `--net=/proc/${keeper.pid}/ns/net`]
  }

  /** @param number that no other host has, from 1 to 250. */
  static async join(number: number): Promise<Host> {
    // It ends with this process, also when that is killed.
    const keeper = spawn('unshare', ['--net', 'sh', '-c', 'echo && exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
    keeper.stdin?.on('error', () => {})
    if (keeper.stdout) await once(keeper.stdout, 'data')
    const host = new Host(number, keeper)
    const [nearCard, farCard] = [`02:00:00:00:${hex(number)}:01`, `02:00:00:00:${hex(number)}:02`]
    const ends = [host.#near, 'address', nearCard, 'type', 'veth', 'peer', 'name', 'far', 'address', farCard]
    await run('ip', ['link', 'add', ...ends, 'netns', String(keeper.pid)])
    await run('ip', ['address', 'add', `${host.#router}/30`, 'dev', host.#near])
    await run('ip', ['link', 'set', host.#near, 'up'])
    // Nobody says that there is no way, as beyond a router: what is sent while the cable is pulled is lost in silence.
    await run('ip', ['neighbour', 'replace', host.address, 'lladdr', farCard, 'dev', host.#near, 'nud', 'permanent'])
    await host.#ip('link', 'set', 'lo', 'up')
    await host.#ip('address', 'add', `${host.address}/30`, 'dev', 'far')
    await host.plug()
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1')
    return host
  }

  /** Nothing comes to the host or from it any more; nobody is told. */
  async unplug(): Promise<void> {
    await this.#ip('link', 'set', 'far', 'down')
  }

  async plug(): Promise<void> {
    await this.#ip('link', 'set', 'far', 'up')
    await this.#ip('route', 'replace', 'default', 'via', this.#router)
  }

  /** Ends all its TCP connections with a reset, which their other ends hear of. False where the kernel does not. */
  async reset(): Promise<boolean> {
    const { stdout } = await run('nsenter', [...this.prefix.slice(1), 'ss', '-K', '-H', 'state', 'established'])
    return stdout !== ''
  }

  /** Its cable is gone at once, the host itself when nothing runs on it any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    await run('ip', ['link', 'delete', this.#near])
    const exited = once(this.keeper, 'exit')
    this.keeper.stdin?.end()
    await exited
  }

  async #ip(...args: string[]): Promise<void> {
    const [command = '', ...rest] = this.prefix
    await run(command, [...rest, 'ip', ...args])
  }
}

const hex = (number: number): string => number.toString(16).padStart(2, '0')

/** Why there can be no hosts here; empty where there can. Whoever runs in a namespace made for it is told so (run.sh). */
export const whyNoHosts = (): string =>
  process.env['FARPOOL_NETWORK'] === 'inside' ? '' : 'it needs a network of its own: test/network/run.sh makes one'
