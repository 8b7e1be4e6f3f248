import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('server.js', import.meta.url))

/** A farpool server in another process, on a TCP port of this machine. */
export class BenchServer {
  private constructor(
    readonly address: string,
    private readonly child: ReturnType<typeof fork>,
  ) {}

  static async start(processes: number): Promise<BenchServer> {
    const child = fork(MAIN, ['server', String(processes)])
    const [address] = await once(child, 'message')
    return new BenchServer(address, child)
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  async stop(): Promise<void> {
    this.child.disconnect()
    await once(this.child, 'exit')
  }
}
