import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('server.js', import.meta.url))

/** A farpool server in another process, on a Unix socket. */
export class BenchServer {
  private constructor(
    readonly address: string,
    private readonly folder: string,
    private readonly child: ReturnType<typeof fork>,
  ) {}

  static async start(processes: number): Promise<BenchServer> {
    const folder = mkdtempSync(join(tmpdir(), 'farpool-bench-'))
    const child = fork(MAIN, [`unix:${join(folder, 'socket')}`, String(processes)])
    const [address] = await once(child, 'message')
    return new BenchServer(address, folder, child)
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  async stop(): Promise<void> {
    this.child.disconnect()
    await once(this.child, 'exit')
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Resident memory in MiB. */
export const rssOf = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
