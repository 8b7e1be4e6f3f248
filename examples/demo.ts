// npm run demo: runs real work on a server with one worker process, on a server with one per CPU, and on a local pool, and
// prints the speed-up. --quick: few items.
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Pool, partial } from 'farpool'
import { serve } from 'farpool/server'
import { findFiles } from './data.js'

type Functions = typeof import('./functions.js')

const quick = process.argv.includes('--quick')
const processes = Math.max(2, availableParallelism())
const packages = fileURLToPath(new URL('../../node_modules', import.meta.url))
const { texts, markdown } = findFiles(packages, quick ? 20 : 600)
// Read all files once, so that neither run has to wait for the disk.
for (const path of [...texts, ...markdown]) readFileSync(path)
const folder = mkdtempSync(join(tmpdir(), 'farpool-demo-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
process.on('SIGINT', () => process.exit(130))
process.on('SIGTERM', () => process.exit(143))

const size = quick ? [320, 240] : [1600, 1200]
const pictures = Array.from({ length: quick ? 4 : 32 }, (_, i): [string, number, number, number, number] => {
  const angle = (2 * Math.PI * i) / 32
  return [
    join(folder, `picture-${i}.jpg`),
    0.7885 * Math.cos(angle),
    0.7885 * Math.sin(angle),
    size[0] ?? 0,
    size[1] ?? 0,
  ]
})
const jpegs = pictures.map(([path]) => path)

/** The results of one run. All runs must have the same. */
interface Facts {
  pictureBytes: number
  thumbnailBytes: number
  words: number
  htmlBytes: number
  digests: string
}

interface Operation {
  name: string
  items: number
  /** Loads the code of the operation into a worker, before the measurement. */
  warmUp(pool: Pool<Functions>): Promise<unknown>
  run(pool: Pool<Functions>, facts: Facts, progress: (done: number) => void): Promise<void>
}

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0)
const warmPicture = join(folder, 'warm-up.jpg')

const operations: Operation[] = [
  {
    name: 'render pictures (starmap)',
    items: pictures.length,
    warmUp: (pool) => pool.apply('renderPicture', [warmPicture, 0, 0.8, 64, 48]),
    async run(pool, facts) {
      facts.pictureBytes = sum(await pool.starmap('renderPicture', pictures, { chunksize: 1 }))
    },
  },
  {
    name: 'thumbnails (imapUnordered)',
    items: 2 * jpegs.length,
    warmUp: (pool) => pool.apply('thumbnail', [warmPicture]),
    async run(pool, facts, progress) {
      let done = 0
      facts.thumbnailBytes = 0
      for (const width of [800, 320]) {
        for await (const { bytes } of pool.imapUnordered(partial('thumbnail', [], { width }), jpegs)) {
          facts.thumbnailBytes += bytes.length
          progress(++done)
        }
      }
    },
  },
  {
    name: 'SHA-256 of text files (map)',
    items: texts.length,
    warmUp: (pool) => pool.apply('sha256', [warmPicture]),
    async run(pool, facts) {
      facts.digests = (await pool.map('sha256', texts)).join('')
    },
  },
  {
    name: 'count words (imap)',
    items: texts.length,
    warmUp: (pool) => pool.apply('countWords', [warmPicture]),
    async run(pool, facts, progress) {
      let done = 0
      facts.words = 0
      for await (const { words } of pool.imap('countWords', texts, { chunksize: 4 })) {
        facts.words += words
        progress(++done)
      }
    },
  },
  {
    name: 'Markdown to HTML (map)',
    items: markdown.length,
    warmUp: (pool) => pool.apply('markdownToHtml', [markdown[0] ?? '']),
    async run(pool, facts) {
      facts.htmlBytes = sum((await pool.map('markdownToHtml', markdown)).map((html) => html.length))
    },
  },
]

const functions = new URL('./functions.js', import.meta.url)
const count = (n: number) => (n === 1 ? '1 process' : `${n} processes`)

/** Runs all operations over gRPC, on a server with so many workers. */
async function runRemote(workers: number): Promise<Run> {
  const listen = `unix:${join(folder, `${workers}.sock`)}`
  await using server = await serve({ modules: [functions], processes: workers, listen, logLevel: 'warn' })
  await using pool = new Pool<Functions>(server.address)
  return await runAll(pool, workers, `server, ${count(workers)}`)
}

/** Runs all operations on workers of this program itself. */
async function runLocal(workers: number): Promise<Run> {
  await using pool = await Pool.local<Functions>(functions, { processes: workers })
  return await runAll(pool, workers, `local, ${count(workers)}`)
}

/** The seconds of each operation, and the results. */
interface Run {
  seconds: number[]
  facts: Facts
}

async function runAll(pool: Pool<Functions>, workers: number, title: string): Promise<Run> {
  const facts: Facts = { pictureBytes: 0, thumbnailBytes: 0, words: 0, htmlBytes: 0, digests: '' }
  const seconds: number[] = []
  const everything = sum(operations.map(({ items }) => items))
  const show = (done: number) => {
    if (process.stderr.isTTY) process.stderr.write(`\r${title}: ${Math.round((100 * done) / everything)} %`)
  }
  let before = 0
  for (const { name, items, warmUp, run } of operations) {
    await Promise.all(Array.from({ length: 2 * workers }, () => warmUp(pool)))
    const started = performance.now()
    await run(pool, facts, (done) => show(before + done))
    const took = (performance.now() - started) / 1000
    seconds.push(took)
    before += items
    show(before)
    if (!process.stderr.isTTY) console.log(`${title}: ${name}, ${items} items, ${took.toFixed(2)} s`)
  }
  if (process.stderr.isTTY) process.stderr.write('\n')
  return { seconds, facts }
}

function table(rows: string[][]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('   '),
    )
    .join('\n')
}

const one = await runRemote(1)
const all = await runRemote(processes)
const local = await runLocal(processes)

const row = (name: string, items: string, [alone = 0, together = 0, here = 0]: number[]) => [
  name,
  items,
  `${alone.toFixed(2)} s`,
  `${together.toFixed(2)} s`,
  `${(alone / together).toFixed(2)} ×`,
  `${here.toFixed(2)} s`,
]
const runs = [one, all, local]
const rows = operations.map(({ name, items }, i) =>
  row(
    name,
    String(items),
    runs.map(({ seconds }) => seconds[i] ?? 0),
  ),
)
const total = row(
  'all',
  '',
  runs.map(({ seconds }) => sum(seconds)),
)
const header = ['operation', 'items', count(1), count(processes), 'speed-up', 'local pool']
console.log(`\n${table([header, ...rows, total])}\n`)

// Check the results.
const { facts } = all
const digest = createHash('sha256')
  .update(readFileSync(texts[0] ?? ''))
  .digest('hex')
const isSame = runs.every((run) => JSON.stringify(run.facts) === JSON.stringify(facts))
const same = isSame && facts.digests.startsWith(digest)
console.log(
  `${facts.words} words counted, ${Math.round(facts.pictureBytes / 1000)} kB of pictures made into ` +
    `${Math.round(facts.thumbnailBytes / 1000)} kB of thumbnails, ${Math.round(facts.htmlBytes / 1000)} kB of HTML.`,
)
console.log(same ? 'All runs gave the same results, and a digest computed here agrees.' : 'The runs DIFFER.')
process.exitCode = same ? 0 : 1
