import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * A simulated host: a network namespace, joined to the namespace of this process by a virtual cable that can be unplugged.
 * This process must run in a namespace of its own too (test/network/run.sh makes one). Only processes keep the namespaces
 * alive: when the processes have ended, for whatever reason, nothing is left.
 *
 *       other hosts ──┐
 *     this process  10.9.N.1 ──── cable ──── 10.9.N.2  host N
 */
export class Host implements AsyncDisposable {
  /** The IP address of the host. This process and the other hosts can reach it. */
  readonly address: string
  /** A command prefix: a command after it runs on the host. */
  readonly prefix: readonly string[]
  readonly #router: string
  /** The network interface at this end of the cable. */
  readonly #near: string

  private constructor(
    number: number,
    private readonly keeper: ReturnType<typeof spawn>,
  ) {
    this.address = `10.9.${number}.2`
    this.#router = `10.9.${number}.1`
    this.#near = `near${number}`
    this.prefix = ['nsenter', `--net=/proc/${keeper.pid}/ns/net`]
  }

  /** @param number from 1 to 250, different for each host. */
  static async join(number: number): Promise<Host> {
    // The keeper ends when this process ends or is killed, because its standard input closes.
    const keeper = spawn('unshare', ['--net', 'sh', '-c', 'echo && exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
    keeper.stdin?.on('error', () => {})
    if (keeper.stdout) await once(keeper.stdout, 'data')
    const host = new Host(number, keeper)
    const [nearCard, farCard] = [`02:00:00:00:${hex(number)}:01`, `02:00:00:00:${hex(number)}:02`]
    const ends = [host.#near, 'address', nearCard, 'type', 'veth', 'peer', 'name', 'far', 'address', farCard]
    await run('ip', ['link', 'add', ...ends, 'netns', String(keeper.pid)])
    await run('ip', ['address', 'add', `${host.#router}/30`, 'dev', host.#near])
    await run('ip', ['link', 'set', host.#near, 'up'])
    // A permanent neighbour entry, so that packets to an unplugged host are lost in silence, as they are behind a router.
    await run('ip', ['neighbour', 'replace', host.address, 'lladdr', farCard, 'dev', host.#near, 'nud', 'permanent'])
    await host.#ip('link', 'set', 'lo', 'up')
    await host.#ip('address', 'add', `${host.address}/30`, 'dev', 'far')
    await host.plug()
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '1')
    return host
  }

  /** Disconnects the host: packets in both directions are lost in silence. */
  async unplug(): Promise<void> {
    await this.#ip('link', 'set', 'far', 'down')
  }

  async plug(): Promise<void> {
    await this.#ip('link', 'set', 'far', 'up')
    await this.#ip('route', 'replace', 'default', 'via', this.#router)
  }

  /** Resets all TCP connections of the host; the other ends notice. Resolves with false if the kernel cannot do that. */
  async reset(): Promise<boolean> {
    const { stdout } = await run('nsenter', [...this.prefix.slice(1), 'ss', '-K', '-H', 'state', 'established'])
    return stdout !== ''
  }

  /** Removes the cable at once. The host disappears when no process runs on it any more. */
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

/** The reason why this process cannot make hosts; empty if it can. test/network/run.sh sets the variable. */
export const whyNoHosts = (): string =>
  process.env['NETWORK_NAMESPACE'] === 'inside' ? '' : 'it needs a network of its own: test/network/run.sh makes one'
