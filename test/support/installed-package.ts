import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** A program of a user, in a folder of its own, with farpool installed from its tarball. Disposing removes the folder. */
export class Project implements Disposable {
  readonly #folder = mkdtempSync(join(realpathSync(tmpdir()), 'farpool-project-'))

  /**
   * Packs the package as it is built and unpacks it, as an installation does. Its dependencies, and no other packages, are
   * linked from the repository, so this needs no registry.
   * @param packages further packages of the repository that the program has.
   */
  constructor(packages: readonly string[] = []) {
    const pack = ['pack', '--ignore-scripts', '--json', '--pack-destination', this.#folder]
    const [{ filename }] = JSON.parse(execFileSync('npm', pack, { cwd: ROOT, encoding: 'utf8' }))
    mkdirSync(this.path('node_modules/farpool'), { recursive: true })
    execFileSync('tar', ['-xzf', this.path(filename), '-C', this.path('node_modules/farpool'), '--strip-components=1'])
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    for (const name of [...Object.keys(dependencies), ...packages]) {
      mkdirSync(dirname(this.path(`node_modules/${name}`)), { recursive: true })
      symlinkSync(realpathSync(join(ROOT, 'node_modules', name)), this.path(`node_modules/${name}`))
    }
  }

  path(name: string): string {
    return join(this.#folder, name)
  }

  /** Writes files, by their names. */
  write(files: Readonly<Record<string, string>>): void {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(this.path(name)), { recursive: true })
      writeFileSync(this.path(name), text)
    }
  }

  /** Runs a program in the folder. Returns its output. @throws with its output if it fails. */
  run(...args: string[]): string {
    try {
      return execFileSync(process.execPath, args, { cwd: this.#folder, encoding: 'utf8', stdio: 'pipe' })
    } catch (error) {
      const { stdout, stderr } = error as { stdout: string; stderr: string }
      throw new Error(`node ${args.join(' ')} failed:\n${stdout}${stderr}`)
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
