import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { faultFile } from './history.js'
import { leftAfter, MARK, marked } from './processes.js'

/** The time that the processes of a run may need to end after it. */
const END_MS = 20_000

/** The surroundings of a run: a folder for its histories and temporary files, and a mark on all its processes. */
export class Stage {
  readonly folder: string
  readonly id: string
  readonly mark: string
  readonly #temporary: string

  /** @param name the begin of the folder's name. */
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

  /** The environment for all processes of the run. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, FARPOOL_WORKER_ENV: '*', [MARK]: this.id, CHAOS_DIR: this.folder, TMPDIR: this.#temporary }
  }

  /** After the end: the processes, sockets and temporary folders that are left. */
  async remains(): Promise<string[]> {
    const processes = await leftAfter(this.mark, END_MS)
    return [...processes, ...this.files]
  }

  /** The temporary files that are left, except Node's compile cache: it stays on purpose. */
  get files(): string[] {
    const names = readdirSync(this.#temporary).filter((name) => name !== 'node-compile-cache')
    return names.map((name) => `file ${name}`)
  }

  /** Kills all processes of the run. Removes its folder unless `keep`. */
  end(keep: boolean): void {
    for (const { pid } of marked(this.mark)) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // The process has just ended.
      }
    }
    if (!keep) rmSync(this.folder, { recursive: true, force: true })
  }
}
