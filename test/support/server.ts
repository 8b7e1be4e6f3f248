import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

export const CLI = path('../../dist/cli/main.js')
export const FUNCTIONS = path('functions.mjs')

export interface LogLine {
  msg: string
  level: number
  pool?: string
  address?: string
  worker?: number
  oom?: string
  function?: string
  exitCode?: number
  cause?: string
  task?: number
  stream?: string
}

/** `farpool serve` in its own process. It keeps the log, and tests can wait for a line of it. */
export class ServerProcess implements AsyncDisposable {
  readonly log: LogLine[] = []
  readonly #child: ReturnType<typeof spawn>
  readonly #exited: Promise<number | null>
  #listeners: (() => void)[] = []
  address = ''

  private constructor(args: string[], prefix: readonly string[]) {
    const [command = '', ...rest] = [...prefix, process.execPath, CLI, 'serve', ...args, '--exit-on-stdin-end']
    this.#child = spawn(command, rest, {
      // The server exits with the tests, even if they are killed.
      stdio: ['pipe', 'inherit', 'pipe'],
    })
    this.#exited = once(this.#child, 'exit').then(([code]) => code as number | null)
    if (this.#child.stderr) {
      createInterface({ input: this.#child.stderr }).on('line', (line) => {
        this.log.push(line.startsWith('{') ? JSON.parse(line) : { msg: line, level: 0 })
        for (const listener of this.#listeners.splice(0)) listener()
      })
    }
    void this.#exited.then(() => {
      for (const listener of this.#listeners.splice(0)) listener()
    })
  }

  /**
   * Starts a server on a free port. Resolves when it accepts calls.
   * @param prefix a command that runs the command in its arguments, for example `['nice']`.
   */
  static async start(
    args: string[] = [],
    modules: string[] = [FUNCTIONS],
    prefix: readonly string[] = [],
  ): Promise<ServerProcess> {
    const listen = args.includes('--listen') ? [] : ['--listen', '127.0.0.1:0']
    const server = new ServerProcess([...modules, ...listen, ...args], prefix)
    const line = await server.logged((logged) => logged.msg === 'serving')
    server.address = String(line.address)
    return server
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get exited(): Promise<number | null> {
    return this.#exited
  }

  /** The first log line that fits, written before or from now on. Throws the whole log if the server exits without one. */
  async logged(fits: (line: LogLine) => boolean): Promise<LogLine> {
    for (let seen = 0; ; ) {
      for (; seen < this.log.length; seen++) {
        const line = this.log[seen]
        if (line && fits(line)) return line
      }
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        throw new Error(`the server ended; its log:\n${this.log.map((line) => JSON.stringify(line)).join('\n')}`)
      }
      await new Promise<void>((resolve) => this.#listeners.push(resolve))
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** Ends the server without a drain, by a second signal. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.signal('SIGTERM')
      this.signal('SIGINT')
    }
    await this.#exited
  }
}

/** Runs a command of the command line until it exits. */
export async function farpool(
  args: string[],
  input?: string,
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: 'pipe', env: { ...process.env, ...env } })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdin.on('error', () => {})
  child.stdin.end(input ?? '')
  const [code] = await once(child, 'close')
  return { code, stdout, stderr }
}

/** A temporary folder until `remove`. `fresh` returns a path that nothing has used before. */
export function temporaryFolder(): { path: (name: string) => string; fresh: () => string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'farpool-test-'))
  const path = (name: string) => join(folder, name)
  let files = 0
  return { path, fresh: () => path(`file-${++files}`), remove: () => rmSync(folder, { recursive: true, force: true }) }
}

/**
 * Resolves when the condition holds; throws after 30 seconds. For conditions without an event: a file, another process,
 * the state of a server.
 */
export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = Date.now() + 30_000
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited 30 s in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Whether a process exists. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
