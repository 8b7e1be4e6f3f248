import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, release, type as system, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chart } from './chart.js'
import { measureGrowth } from './growth.js'
import { installPythonPeers, pythonVersions } from './python.js'
import { json, type Report, type Result, resultOf, sections } from './report.js'
import { PEERS, peersOf, QUICK_PEERS, ROWS, type Row } from './rows.js'
import { inTurns } from './run.js'

const HELP = `npm run bench [-- options]

Measures farpool and its peers: the pools of Python and Node, a queue on Redis, the raw transport. Leaves out peers that need
a missing program (python3, redis-server). Prints the tables, and writes the tables, all figures and a chart to --out.

  --quick         few rows, few peers, one turn and smaller counts: takes a minute or two, and is less exact
  --rows IDS      only these rows, with commas between them: ${ROWS.map(({ id }) => id).join(', ')}
  --peers NAMES   only these peers, with commas between them: ${Object.keys(PEERS)
    .filter((name) => !name.includes(','))
    .join(', ')}
  --no-growth     no curves of the growth of the cost
  --turns N       how often each row is measured (default: 5; with --quick: 1)
  --out FOLDER    default: bench/out
  --docs          also writes the figures into docs/explanation/performance.md and docs/explanation/performance/
`

const DOCS = fileURLToPath(new URL('../../docs/explanation/performance', import.meta.url))

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rows: { type: 'string' },
    peers: { type: 'string' },
    'no-growth': { type: 'boolean', default: false },
    turns: { type: 'string', default: '' },
    out: { type: 'string', default: fileURLToPath(new URL('../out', import.meta.url)) },
    docs: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) process.stdout.write(HELP)
else await main()

async function main(): Promise<void> {
  if (values.docs && (values.quick || values.rows || values.peers || values['no-growth']))
    throw new Error('--docs needs all rows and all peers')
  const rows = chosenRows()
  const peers = chosenPeers()
  if (peers.some((name) => PEERS[name]?.[0] === 'venv')) installPythonPeers()
  const turns = Number(values.turns || (values.quick ? 1 : 5))
  const results: Result[] = []
  for (const row of rows) {
    const chosen = peersOf(row).filter((peer) => peers.includes(peer))
    if (chosen.length === 0) continue
    process.stderr.write(`${row.title} …\n`)
    const plan = { peers: chosen, turns, countOf: (peer: string) => countOf(row, peer) }
    results.push(resultOf(row, await inTurns(row, plan)))
  }
  const report: Report = {
    date: new Date().toISOString().slice(0, 10),
    machine: `${availableParallelism()} cores (${cpus()[0]?.model.trim()}), ${(totalmem() / 1024 ** 3).toFixed(0)} GiB, ${system()} ${release()}`,
    versions: versions(),
    turns,
    results,
    growth: values['no-growth'] || values.quick ? [] : await measureGrowth(turns),
  }
  const text = sections(report)
  const markdown = `${[...text.values()].join('\n\n')}\n`
  write(values.out, report)
  writeFileSync(`${values.out}/table.md`, markdown)
  if (values.docs) {
    write(DOCS, report)
    fill(`${DOCS}.md`, text)
  }
  process.stdout.write(`\n${markdown}`)
}

function write(folder: string, report: Report): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${folder}/figures.json`, json(report))
  writeFileSync(`${folder}/chart.svg`, chart(report))
}

/** Replaces the text between the two marks of each section. */
function fill(file: string, text: ReadonlyMap<string, string>): void {
  const filled = [...text].reduce(
    (page, [id, section]) =>
      page.replace(new RegExp(`(<!-- ${id} -->\n)[^]*?(?=<!-- /${id} -->)`), (_, mark) => `${mark}${section.trim()}\n`),
    readFileSync(file, 'utf8'),
  )
  writeFileSync(file, filled)
}

function chosenRows(): readonly Row[] {
  const asked = values.rows?.split(',')
  const unknown = asked?.filter((id) => !ROWS.some((row) => row.id === id)) ?? []
  if (unknown.length > 0)
    throw new Error(`no row ${unknown.join(', ')}; the rows are: ${ROWS.map(({ id }) => id).join(', ')}`)
  return ROWS.filter((row) => (asked ? asked.includes(row.id) : row.quick || !values.quick))
}

/** A name stands for all numbers of workers of this peer. */
function chosenPeers(): readonly string[] {
  const asked = values.peers?.split(',')
  if (!asked) return values.quick ? QUICK_PEERS : Object.keys(PEERS)
  return Object.keys(PEERS).filter((peer) => asked.includes(String(peer.split(',')[0])))
}

function countOf({ n, fewer }: Row, peer: string): number {
  const count = fewer?.[peer] ?? n
  return values.quick ? Math.max(Math.min(count, 4), Math.ceil(count / 5)) : count
}

function versions(): Record<string, string> {
  const installed = (name: string) =>
    JSON.parse(readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url), 'utf8')).version
  const names = ['@grpc/grpc-js', 'piscina', 'tinypool', 'workerpool', 'poolifier', 'bullmq']
  return {
    Node: process.version,
    ...program('Python', 'python3', ['--version'], /[\d.]+/),
    ...program('Redis', 'redis-server', ['--version'], /(?<=v=)[\d.]+/),
    ...pythonVersions(),
    ...Object.fromEntries(names.map((name) => [name, installed(name)])),
  }
}

function program(name: string, command: string, args: string[], version: RegExp): Record<string, string> {
  try {
    return { [name]: version.exec(execFileSync(command, args, { encoding: 'utf8' }))?.[0] ?? 'of unknown version' }
  } catch {
    return {}
  }
}
