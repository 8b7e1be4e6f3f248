import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { lexer, type Token, type Tokens } from 'marked'
import { until } from './server.js'

/**
 * Runs the code blocks of a page in their order, as a reader would:
 *
 *     ts, js, json, yaml  with `// name` in the first line: a file. Otherwise a program, which is compiled and run.
 *     sh                commands for bash, which must succeed
 *     sh server         a command that runs until the end of the page; the blocks behind it wait until it listens
 *     text output       what the block before has printed; … stands for any text
 *     text              no code
 *     … not run: why    a block that cannot run here
 */
export interface Block {
  readonly language: string
  /** What follows the language. */
  readonly info: string
  readonly text: string
  /** For messages: the page and the line of the block. */
  readonly place: string
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PACKAGES = join(ROOT, 'node_modules')

/** The code blocks of a page. @throws Error for a block without a language. */
export function blocksOf(page: string): Block[] {
  const source = readFileSync(join(ROOT, page), 'utf8')
  const blocks: Block[] = []
  let at = 0
  for (const token of codeIn(lexer(source))) {
    at = source.indexOf(token.raw.trimEnd().split('\n')[0] ?? '', at)
    const place = `${page}:${source.slice(0, at).split('\n').length}`
    at += 1
    const [language = '', ...info] = (token.lang ?? '').split(' ')
    if (language === '') throw new Error(`${place}: a code block needs a fence with a language`)
    blocks.push({ language, info: info.join(' '), text: `${token.text}\n`, place })
  }
  return blocks
}

function codeIn(tokens: readonly Token[]): Tokens.Code[] {
  return tokens.flatMap((token) => {
    if (token.type === 'code') return [token as Tokens.Code]
    const children = 'items' in token ? (token['items'] as Token[]) : 'tokens' in token ? (token.tokens ?? []) : []
    return codeIn(children)
  })
}

export const isRun = ({ language, info }: Block): boolean =>
  !info.startsWith('not run: ') && (language !== 'text' || info === 'output')

/** The name of the file that a block is. */
const fileOf = ({ text }: Block): string | undefined =>
  /^(?:\/\/|#) ([\w./-]+\.\w+)$/m.exec(text.split('\n')[0] ?? '')?.[1]

/** The project of the tutorial: a folder that has farpool and its development dependencies. */
export class DocsProject implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'farpool-docs-'))
  readonly #servers: ChildProcess[] = []
  readonly #ports = new Map<string, number>()

  static async create(): Promise<DocsProject> {
    const project = new DocsProject()
    for (const port of ['50051', '3000']) project.#ports.set(port, await freePort())
    project.#write('package.json', JSON.stringify({ name: 'my-pool', private: true, type: 'module' }))
    project.#write('tsconfig.json', readTsconfig())
    mkdirSync(join(project.folder, 'node_modules/.bin'), { recursive: true })
    const links = { typescript: 'typescript', '@types': '@types', '@grpc': '@grpc', fastify: 'fastify', sharp: 'sharp' }
    for (const [name, target] of Object.entries(links)) project.#link(join(PACKAGES, target), name)
    project.#link(ROOT, 'farpool')
    project.#link(join(PACKAGES, 'typescript/bin/tsc'), '.bin/tsc')
    project.#link(join(ROOT, 'dist/cli/main.js'), '.bin/farpool')
    return project
  }

  /** The port that stands for a port of the page. */
  port(named: string): number {
    return this.#ports.get(named) ?? 0
  }

  /** Runs the blocks of a page. @throws Error with the place and the output of the first block that fails. */
  async runPage(page: string): Promise<void> {
    let output = ''
    for (const block of blocksOf(page).filter(isRun)) {
      if (block.info === 'output') this.#compare(block, output)
      else output = await this.#run(block)
    }
  }

  /** Writes the files of a page, and compiles them. */
  async files(page: string): Promise<void> {
    for (const block of blocksOf(page).filter(isRun)) {
      const file = fileOf(block)
      if (file) this.#write(file, this.#local(block.text))
    }
    await this.command('npx tsc', page)
  }

  async #run(block: Block): Promise<string> {
    const { language, info, place } = block
    const text = this.#local(block.text)
    const file = fileOf(block)
    if (language === 'sh') {
      if (info !== 'server') return this.command(text, place)
      this.start(text)
      const [, socket] = /unix:\$PWD\/([\w.]+)/.exec(text) ?? []
      const port = this.port(text.includes(String(this.port('3000'))) ? '3000' : '50051')
      const listens = socket ? () => existsSync(join(this.folder, socket)) : () => isOpen(port)
      await until(listens, `the server of ${place} listens`)
      return ''
    }
    if (!['ts', 'js', 'json', 'yaml'].includes(language)) throw new Error(`${place}: ${language} cannot run`)
    if (file) {
      this.#write(file, text)
      return ''
    }
    const name = `block-${place.split(':').at(-1)}`
    this.#write(`${name}.${language}`, text)
    return this.command(language === 'ts' ? `npx tsc && node ${name}.js` : `node ${name}.js`, place)
  }

  /** Runs a command until it ends, for at most a minute. Returns its output. @throws Error if it fails. */
  async command(command: string, place: string): Promise<string> {
    const child = this.#spawn(command)
    child.stdin?.end()
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    }
    const limit = setTimeout(() => end(child, 'SIGKILL'), 60_000)
    const [code] = await once(child, 'close')
    clearTimeout(limit)
    if (code !== 0) throw new Error(`${place}: exit code ${code}\n${command}\n${output}`)
    return output
  }

  /** Starts a command that runs until this project is disposed of. */
  start(command: string, env: NodeJS.ProcessEnv = {}): ChildProcess {
    const child = this.#spawn(command, env)
    child.stdout?.resume()
    child.stderr?.resume()
    this.#servers.push(child)
    return child
  }

  #spawn(command: string, env: NodeJS.ProcessEnv = {}): ChildProcess {
    const [address, port] = [`127.0.0.1:${this.port('50051')}`, String(this.port('3000'))]
    // Some builds of bash read the settings of an interactive shell where they take it for one of a remote login.
    return spawn('bash', ['--norc', '-euo', 'pipefail', '-c', command], {
      cwd: this.folder,
      // A group of its own, so that dispose ends all processes of the command.
      detached: true,
      env: {
        ...process.env,
        FARPOOL_LISTEN: address,
        FARPOOL_ADDRESS: address,
        FARPOOL_EXIT_ON_STDIN_END: 'true',
        PORT: port,
        // npx must not ask, and must not download.
        npm_config_yes: 'false',
        npm_config_offline: 'true',
        npm_config_update_notifier: 'false',
        ...env,
      },
    })
  }

  /** The text of a page with the ports that are free here. */
  #local(text: string): string {
    return [...this.#ports].reduce((changed, [named, port]) => changed.replaceAll(named, String(port)), text)
  }

  #compare({ text, place }: Block, output: string): void {
    const pattern = this.#local(text.trim()).split('…').map(escaped).join('[^]*')
    if (!new RegExp(`^${pattern}$`).test(output.trim())) {
      throw new Error(`${place}: the page says\n${text}\nbut the output is\n${output}`)
    }
  }

  #write(name: string, text: string): void {
    mkdirSync(dirname(join(this.folder, name)), { recursive: true })
    writeFileSync(join(this.folder, name), text)
  }

  #link(target: string, name: string): void {
    symlinkSync(target, join(this.folder, 'node_modules', name))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) {
      end(server, 'SIGTERM')
      await until(() => !hasGroup(server), 'the processes of a page have ended')
    }
    rmSync(this.folder, { recursive: true, force: true })
  }
}

const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** Whether a process of the command still runs. */
const hasGroup = (child: ChildProcess): boolean => end(child, 0)

/** Sends a signal to all processes of a command. Returns false if there are none. */
function end({ pid }: ChildProcess, signal: NodeJS.Signals | 0): boolean {
  try {
    return pid !== undefined && process.kill(-pid, signal)
  } catch {
    return false
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address ? address.port : 0
}

const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })

/** The tutorial's own, so that all pages compile with what it tells the reader to write. */
function readTsconfig(): string {
  const block = blocksOf('docs/tutorial/README.md').find((one) => fileOf(one) === 'tsconfig.json')
  if (!block) throw new Error('the tutorial has no tsconfig.json')
  return block.text
}
