import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { REASONS, type Reason } from '../wire/reason.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** Which folder may import which, and which packages and Node modules it may not; docs/architecture.md draws it. */
const RULES: Record<string, { folders: string[]; notPackages?: RegExp; notFiles?: RegExp }> = {
  wire: { folders: ['wire', 'proto/gen'], notPackages: /^(node:(?!buffer)|@grpc|pino)/, notFiles: /pool_service/ },
  'server/worker': {
    folders: ['server/worker', 'wire', 'proto/gen'],
    notPackages: /^(@grpc|pino)/,
    notFiles: /pool_service/,
  },
  'server/pool': {
    folders: ['server/pool', 'wire', 'proto/gen'],
    notPackages: /^(@grpc|pino)/,
    notFiles: /wire\/payload/,
  },
  'server/rpc': {
    folders: ['server/rpc', 'server/pool', 'wire', 'proto/gen'],
    notPackages: /^(node:child_process|pino)/,
    notFiles: /wire\/payload/,
  },
  'server/ops': { folders: ['server/ops', 'server/pool'] },
  server: { folders: ['server', 'server/rpc', 'server/pool', 'server/ops', 'wire', 'proto/gen'] },
  client: { folders: ['client', 'wire', 'proto/gen'] },
  cli: { folders: ['cli', 'client', 'server', 'server/ops', 'wire', 'proto/gen'] },
}

const files = (folder: string): string[] =>
  readdirSync(join(ROOT, folder)).flatMap((name) => {
    const path = join(folder, name)
    if (statSync(join(ROOT, path)).isDirectory()) return name === 'gen' || name === 'node_modules' ? [] : files(path)
    return path.endsWith('.ts') ? [path] : []
  })

const folderOf = (file: string): string =>
  file.startsWith('proto/gen')
    ? 'proto/gen'
    : (Object.keys(RULES).find((rule) => rule === dirname(file)) ?? dirname(file))

const importsOf = (file: string): string[] =>
  [...readFileSync(join(ROOT, file), 'utf8').matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) =>
    String(match[1]),
  )

const sources = ['wire', 'server', 'client', 'cli'].flatMap(files)

describe('the structure', () => {
  it('imports go one way', () => {
    const wrong = sources.flatMap((file) => {
      const rule = RULES[dirname(file)]
      if (!rule) return [`${file}: no rule for its folder`]
      return importsOf(file).flatMap((name) => {
        if (!name.startsWith('.')) return rule.notPackages?.test(name) ? [`${file} imports ${name}`] : []
        const target = normalize(join(dirname(file), name))
        const allowed = rule.folders.includes(folderOf(target)) && !rule.notFiles?.test(target)
        return allowed ? [] : [`${file} imports ${target}`]
      })
    })
    expect(wrong).toEqual([])
  })

  it('only one file of the server makes processes', () => {
    const makers = sources.filter(
      (file) => file.startsWith('server/') && importsOf(file).includes('node:child_process'),
    )
    expect(makers).toEqual(['server/pool/spawn.ts'])
  })

  it('no source file has more than 300 lines', () => {
    const long = sources.filter((file) => readFileSync(join(ROOT, file), 'utf8').split('\n').length > 300)
    expect(long).toEqual([])
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

  it('every row of docs/semantics.md has a test of its name', () => {
    const tests = readFileSync(join(ROOT, 'test/integration/semantics.test.ts'), 'utf8')
    const table = readFileSync(join(ROOT, 'docs/semantics.md'), 'utf8').match(/^\|.*\|$/gm) ?? []
    const rows = table.slice(2).map((row) => String(row.split('|')[1]).trim())
    expect(rows.length).toBeGreaterThan(15)
    expect(rows.filter((row) => !tests.includes(`describe('${row}'`))).toEqual([])
  })

  it('every reason has a row in docs/errors.md', () => {
    const table = readFileSync(join(ROOT, 'docs/errors.md'), 'utf8')
    expect(
      Object.keys(REASONS).filter((reason) => !table.includes(`| ${reason} | ${REASONS[reason as Reason].code}`)),
    ).toEqual([])
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
        const paths = [
          ...text.matchAll(/`((?:proto|wire|server|client|cli|test|examples|docs|scripts|bench)\/[\w./-]+)`/g),
        ]
        const lost = paths.map((match) => String(match[1])).filter((path) => !exists(path))
        return [...runs, ...gone, ...lost].map((what) => `${page} names ${what}`)
      })
    expect(missing).toEqual([])
  })
})

function exists(path: string): boolean {
  try {
    statSync(join(ROOT, relative('.', path)))
    return true
  } catch {
    return false
  }
}
