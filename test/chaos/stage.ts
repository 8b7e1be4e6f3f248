import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { faultFile } from './history.js'
import { leftAfter, MARK, marked } from './processes.js'

/** How long a process may take to end after the last word has been said to it. */
const END_MS = 20_000

/** Where a run takes place: a folder for its histories and its temporary files, and a mark on all its processes. */
export class Stage {
  readonly folder: string
  readonly id: string
  readonly mark: string
  readonly #temporary: string

  /** @param name of what is run there. */
  constructor(name = 'chaos') {
    this.folder = mkdtempSync(join(tmpdir(), `${name}-`))
    this.id = this.folder.slice(-6)
    this.mark = `${MARK}=${this.id}`
    this.#temporary = join(this.folder, 'tmp')
    mkdirSync(this.#temporary)
    writeFileSync(faultFile(this.folder), '')
  }

  get socket(): string {
    return join(this.#temporary, 'server.sock')
  }

  /** Of all processes of the run. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, [MARK]: this.id, FARPOOL_CHAOS_DIR: this.folder, TMPDIR: this.#temporary }
  }

  /** What is left when all has ended: processes, sockets, temporary folders. */
  async remains(): Promise<string[]> {
    const processes = await leftAfter(this.mark, END_MS)
    return [...processes, ...this.files]
  }

  /** Node's cache of compiled modules is meant to stay (docs/performance.md). */
  get files(): string[] {
    const names = readdirSync(this.#temporary).filter((name) => name !== 'node-compile-cache')
    return names.map((name) => `file ${name}`)
  }

  /** Whatever happened: nothing of the run goes on. */
  end(keep: boolean): void {
    for (const { pid } of marked(this.mark)) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It has just ended.
      }
    }
    if (!keep) rmSync(this.folder, { recursive: true, force: true })
  }
}
