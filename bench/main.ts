import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, release, type as system } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chart } from './chart.js'
import { measureGrowth } from './growth.js'
import { json, type Report, type Result, resultOf, table } from './report.js'
import { ROWS, type Row } from './rows.js'
import { inTurns } from './run.js'

const HELP = `npm run bench [-- options]

Measures farpool and its peers: Python's Pool, pools for Node, a queue on Redis, the raw transport. Leaves out peers that
need a missing program (python3, redis-server). Prints a table, and writes the table, all figures and a chart to --out.

  --quick         fewer turns and smaller counts: takes about a minute, and is less exact
  --rows IDS      only these rows, with commas between them: ${ROWS.map(({ id }) => id).join(', ')}
  --no-growth     no curves of the growth of the cost
  --turns N       how often each row is measured (default: 5; with --quick: 1)
  --out FOLDER    default: bench/out
`

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rows: { type: 'string' },
    'no-growth': { type: 'boolean', default: false },
    turns: { type: 'string', default: '' },
    out: { type: 'string', default: fileURLToPath(new URL('../out', import.meta.url)) },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) process.stdout.write(HELP)
else await main()

async function main(): Promise<void> {
  const turns = Number(values.turns || (values.quick ? 1 : 5))
  const report: Report = {
    date: new Date().toISOString().slice(0, 10),
    machine: `${availableParallelism()} cores (${cpus()[0]?.model.trim()}), ${system()} ${release()}`,
    versions: versions(),
    turns,
    results: await measureRows(turns),
    growth:
      values['no-growth'] || values.quick ? [] : await measureGrowth(Math.min(3, turns), Number.POSITIVE_INFINITY),
  }
  mkdirSync(values.out, { recursive: true })
  writeFileSync(`${values.out}/table.md`, table(report))
  writeFileSync(`${values.out}/figures.json`, json(report))
  writeFileSync(`${values.out}/chart.svg`, chart(report))
  process.stdout.write(`\n${table(report)}`)
}

async function measureRows(turns: number): Promise<Result[]> {
  const asked = values.rows?.split(',')
  const unknown = asked?.filter((id) => !ROWS.some((row) => row.id === id)) ?? []
  if (unknown.length > 0)
    throw new Error(`no row ${unknown.join(', ')}; the rows are: ${ROWS.map(({ id }) => id).join(', ')}`)
  const results: Result[] = []
  for (const row of ROWS) {
    if (asked && !asked.includes(row.id)) continue
    process.stderr.write(`${row.title} …\n`)
    results.push(resultOf(row, await inTurns(row.peers, row.id, (peer) => countOf(row, peer), turns)))
  }
  return results
}

function countOf({ n, fewer }: Row, peer: string): number {
  const count = fewer?.[peer] ?? n
  return values.quick ? Math.max(Math.min(count, 4), Math.ceil(count / 5)) : count
}

function versions(): Record<string, string> {
  const installed = (name: string) =>
    JSON.parse(readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url), 'utf8')).version
  const names = ['@grpc/grpc-js', 'piscina', 'tinypool', 'workerpool', 'bullmq']
  return {
    Node: process.version,
    ...program('Python', 'python3', ['--version'], /[\d.]+/),
    ...program('Redis', 'redis-server', ['--version'], /(?<=v=)[\d.]+/),
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
