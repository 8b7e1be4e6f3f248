import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { REASONS, type Reason } from '../wire/reason.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** Which room may import which other rooms, and not which packages; docs/explanation/architecture.md draws it. */
const ROOMS: Record<string, { imports: string[]; notPackages?: RegExp; notFiles?: RegExp }> = {
  'proto/gen': { imports: [] },
  wire: { imports: ['proto/gen'], notPackages: /^(node:(?!buffer|fs|crypto)|@grpc|pino)/ },
  worker: { imports: ['wire', 'proto/gen'], notPackages: /^(@grpc|pino)/, notFiles: /pool_service|rpc-methods/ },
  pool: {
    imports: ['wire', 'proto/gen'],
    notPackages: /^(@grpc|pino)/,
    notFiles: /wire\/values|pool_service|rpc-methods/,
  },
  server: { imports: ['pool', 'wire', 'proto/gen'] },
  client: { imports: ['pool', 'wire', 'proto/gen'] },
  cli: { imports: ['client', 'server', 'wire', 'proto/gen'] },
}

/** Which folder may import which others inside of its room. Folders that are not listed may import any. */
const FOLDERS: Record<string, string[]> = {
  'pool/scheduler': [],
  'pool/process': ['pool/scheduler'],
  'server/limits': [],
  // It reads a file with the means of the configuration.
  'server/auth': ['server/limits', 'server'],
  'server/grpc': ['server/auth', 'server/limits'],
  'server/calls': ['server/auth', 'server/limits'],
  'server/session': ['server/calls', 'server/grpc', 'server/auth', 'server/limits'],
  'server/api': ['server/session', 'server/calls', 'server/grpc', 'server/auth', 'server/limits'],
  'server/ops': ['server/grpc'],
}

const files = (folder: string): string[] =>
  readdirSync(join(ROOT, folder)).flatMap((name) => {
    const path = join(folder, name)
    if (statSync(join(ROOT, path)).isDirectory()) return name === 'gen' || name === 'node_modules' ? [] : files(path)
    return path.endsWith('.ts') ? [path] : []
  })

const roomOf = (file: string): string => (file.startsWith('proto/gen') ? 'proto/gen' : (file.split('/')[0] ?? ''))

const importsOf = (file: string): string[] =>
  [...readFileSync(join(ROOT, file), 'utf8').matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) =>
    String(match[1]),
  )

const sources = ['wire', 'worker', 'pool', 'server', 'client', 'cli'].flatMap(files)

describe('the structure', () => {
  it('imports go one way', () => {
    const wrong = sources.flatMap((file) => {
      const room = roomOf(file)
      const rule = ROOMS[room]
      if (!rule) return [`${file}: no rule for its room`]
      return importsOf(file).flatMap((name) => {
        if (!name.startsWith('.')) return rule.notPackages?.test(name) ? [`${file} imports ${name}`] : []
        const target = normalize(join(dirname(file), name))
        const folder = FOLDERS[dirname(file)]
        const isNear = dirname(target) === dirname(file) || folder === undefined || folder.includes(dirname(target))
        const isAllowed = roomOf(target) === room ? isNear : rule.imports.includes(roomOf(target))
        return isAllowed && !rule.notFiles?.test(target) ? [] : [`${file} imports ${target}`]
      })
    })
    expect(wrong).toEqual([])
  })

  it('no import leads back to where it came from, not even for a type', () => {
    const targets = new Map(
      sources.map((file) => [
        file,
        importsOf(file)
          .filter((name) => name.startsWith('.'))
          .map((name) => normalize(join(dirname(file), name)).replace(/\.js$/, '.ts')),
      ]),
    )
    const done = new Set<string>()
    const cycles: string[] = []
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(' → '))
      if (done.has(file) || path.includes(file)) return
      for (const target of targets.get(file) ?? []) visit(target, [...path, file])
      done.add(file)
    }
    for (const file of sources) visit(file, [])
    expect(cycles).toEqual([])
  })

  it('no two source files have one base name', () => {
    const names = sources.map((file) => basename(file)).filter((name) => name !== 'index.ts')
    expect(names.filter((name, at) => names.indexOf(name) !== at)).toEqual([])
  })

  it('of the client, only the local pool uses the engine', () => {
    const users = sources.filter(
      (file) => file.startsWith('client/') && importsOf(file).some((name) => /\/pool\//.test(name)),
    )
    expect(users).toEqual(['client/local.ts', 'client/transport/in-process-transport.ts'])
  })

  it('only the launcher makes processes, and knows what Node calls one', () => {
    const makers = sources.filter((file) => importsOf(file).includes('node:child_process'))
    expect(makers).toEqual(['pool/process/launcher.ts'])
  })

  it('the lock file names the packages of every platform, and no registry', () => {
    const text = readFileSync(join(ROOT, 'package-lock.json'), 'utf8')
    const packages: Record<string, { optionalDependencies?: Record<string, string> }> = JSON.parse(text).packages
    const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter(
        (name) => !(`node_modules/${name}` in packages) && !(`${path}/node_modules/${name}` in packages),
      ),
    )
    expect(missing).toEqual([])
    expect(text).not.toContain('"resolved"')
  })

  it('every row of docs/reference/semantics.md has a test of its name', () => {
    const tests = readFileSync(join(ROOT, 'test/integration/semantics.test.ts'), 'utf8')
    const table = readFileSync(join(ROOT, 'docs/reference/semantics.md'), 'utf8').match(/^\|.*\|$/gm) ?? []
    const rows = table.slice(2).map((row) => String(row.split('|')[1]).trim())
    expect(rows.length).toBeGreaterThan(15)
    expect(rows.filter((row) => !tests.includes(`describe('${row}'`))).toEqual([])
  })

  it('every reason has a row in docs/reference/errors.md', () => {
    const table = readFileSync(join(ROOT, 'docs/reference/errors.md'), 'utf8')
    expect(
      Object.keys(REASONS).filter((reason) => !table.includes(`| ${reason} | ${REASONS[reason as Reason].code}`)),
    ).toEqual([])
  })

  it('docs/reference has the options of the command line and the API as they are', () => {
    const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'scripts/reference.mjs'), '--check'])
    expect([status, String(stderr)]).toEqual([0, ''])
  })

  it('every script, file and command that README and docs name is there', () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    const pages = [
      'README.md',
      'CONTRIBUTING.md',
      ...readdirSync(join(ROOT, 'docs'), { recursive: true }).map((page) => join('docs', String(page))),
    ]
    const missing = pages
      .filter((page) => page.endsWith('.md'))
      .flatMap((page) => {
        const text = readFileSync(join(ROOT, page), 'utf8')
        const runs = [...text.matchAll(/npm run ([a-z:-]+)/g)]
          .map((match) => String(match[1]))
          .filter((name) => !(name in scripts))
        const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map((match) => String(match[1]))
        const gone = links.filter((link) => !exists(join(dirname(page), link)))
        const anchors = [...text.matchAll(/\]\((?!https?:)([^)#]*\.md)?#([^)]+)/g)]
          .filter(([, file]) => !file || exists(join(dirname(page), file)))
          .filter(([, file, name]) => !headings(file ? join(dirname(page), file) : page).includes(String(name)))
          .map(([link]) => `the heading of ${link})`)
        const paths = [
          ...text.matchAll(
            /`((?:proto|wire|worker|pool|server|client|cli|test|examples|docs|scripts|bench)\/[\w./-]+)`/g,
          ),
        ]
        const lost = paths.map((match) => String(match[1])).filter((path) => !exists(path))
        return [...runs, ...gone, ...anchors, ...lost].map((what) => `${page} names ${what}`)
      })
    expect(missing).toEqual([])
  })
})

/** The names by which links name the headings of a page. */
const headings = (page: string): string[] =>
  [...readFileSync(join(ROOT, page), 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )

function exists(path: string): boolean {
  try {
    statSync(join(ROOT, relative('.', path)))
    return true
  } catch {
    return false
  }
}
