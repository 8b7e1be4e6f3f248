import { execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('server.js', import.meta.url))

/** A farpool server in another process, on a TCP port of this machine. */
export class BenchServer {
  private constructor(
    readonly address: string,
    /** How clients connect. */
    readonly options: { readonly tls?: { readonly ca: string } },
    private readonly child: ReturnType<typeof fork>,
    private readonly folder: string,
  ) {}

  static async start(processes: number, withTls = false): Promise<BenchServer> {
    const folder = mkdtempSync(join(tmpdir(), 'farpool-bench-'))
    const pair = withTls ? selfSigned(folder) : []
    const child = fork(MAIN, ['server', String(processes), ...pair])
    const [address] = await once(child, 'message')
    const [ca] = pair
    return new BenchServer(address, ca === undefined ? {} : { tls: { ca } }, child, folder)
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  async stop(): Promise<void> {
    this.child.disconnect()
    await once(this.child, 'exit')
    rmSync(this.folder, { recursive: true })
  }
}

/** The files of a certificate for this machine and of its key. */
function selfSigned(folder: string): [cert: string, key: string] {
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key]
  const names = ['-subj', '/CN=bench', '-addext', 'subjectAltName=IP:127.0.0.1']
  execFileSync('openssl', ['req', '-x509', ...curve, ...names, '-days', '1', '-out', cert], { stdio: 'pipe' })
  return [cert, key]
}
