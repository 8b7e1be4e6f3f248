// A program that traces calls: which source files run code during one apply, and one imap, over a real server with a
// worker process. Prints {"apply": [...], "imap": [...]}, each a list of files of this repository.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { SourceMap } from 'node:module'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const DIST = new URL('../../dist/', import.meta.url).href
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const { Pool } = await import(`${DIST}client/index.js`)
const { serve } = await import(`${DIST}server/index.js`)

/** Precise block coverage: a block counts if it ran since `start`, also behind an await. */
const TRACER = `
import { Session } from 'node:inspector/promises'
const session = new Session()
session.connect()
await session.post('Profiler.enable')
export const start = () => session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
export async function stop() {
  const { result } = await session.post('Profiler.takePreciseCoverage')
  await session.post('Profiler.stopPreciseCoverage')
  return result
}
`
const FUNCTIONS = `
import * as tracer from './tracer.mjs'
export const add = (a, b) => a + b
export const square = (n) => n * n
export const start = () => tracer.start().then(() => 0)
export async function stop() {
  const scripts = await tracer.stop()
  const worker = scripts.filter(({ url }) => url.endsWith('worker-main.js'))
  return JSON.stringify(worker)
}
`

const folder = mkdtempSync(join(tmpdir(), 'farpool-trace-'))
try {
  writeFileSync(join(folder, 'tracer.mjs'), TRACER)
  writeFileSync(join(folder, 'functions.mjs'), FUNCTIONS)
  const tracer = await import(join(folder, 'tracer.mjs'))
  const server = await serve({
    modules: [join(folder, 'functions.mjs')],
    processes: 1,
    listen: `unix:${join(folder, 'socket')}`,
    logLevel: 'silent',
  })
  const pool = new Pool(server.address)

  /** The files that ran in this process and in the worker during the call. */
  const filesOf = async (call) => {
    await pool.apply('start')
    await tracer.start()
    await call()
    const here = await tracer.stop()
    const there = JSON.parse(await pool.apply('stop'))
    const files = new Set()
    for (const { url, functions } of [...here.filter(({ url }) => url.startsWith(DIST)), ...there])
      for (const file of filesOfBundle(url, functions)) files.add(file)
    return files
  }

  /** The files in at least two of three traces: a timer of the server may run once by chance. */
  const usual = async (call) => {
    for (let warm = 0; warm < 50; warm++) await call()
    const traces = [await filesOf(call), await filesOf(call), await filesOf(call)]
    const all = new Set(traces.flatMap((files) => [...files]))
    return [...all].filter((file) => traces.filter((files) => files.has(file)).length > 1).sort()
  }

  const apply = await usual(() => pool.apply('add', [1, 2]))
  const imap = await usual(async () => {
    for await (const _ of pool.imap('square', [1, 2, 3]));
  })
  await pool.terminate()
  await server.stop()
  process.stdout.write(JSON.stringify({ apply, imap }))
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** V8 reports the whole script as one function, which ran before. */
function hasRun({ functionName, ranges, isBlockCoverage }) {
  const [whole] = ranges
  if (functionName === '' && whole.startOffset === 0) return false
  return isBlockCoverage ? ranges.some(({ count }) => count > 0) : whole.count > 0
}

/** The source files of the functions that ran, by the source map of the build's file. */
function filesOfBundle(url, functions) {
  const code = readFileSync(fileURLToPath(url), 'utf8')
  const map = new SourceMap(JSON.parse(readFileSync(fileURLToPath(`${url}.map`), 'utf8')))
  return functions.filter(hasRun).flatMap(({ ranges: [{ startOffset }] }) => {
    const before = code.slice(0, startOffset).split('\n')
    const { originalSource } = map.findEntry(before.length - 1, before.at(-1).length)
    return originalSource ? [relative(ROOT, fileURLToPath(new URL(originalSource, url)))] : []
  })
}
