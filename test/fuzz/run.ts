import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Stage } from '../chaos/stage.js'
import { Client } from './client.js'
import { type Finding, fuzz, type Played } from './fuzz.js'
import { Http2 } from './http2.js'
import { HELP, type Options, parseOptions } from './options.js'
import { table } from './report.js'
import { Requests } from './requests.js'
import type { Target, TargetName } from './target.js'
import { Worker } from './worker.js'

const FUNCTIONS = fileURLToPath(new URL('functions.js', import.meta.url))
/** The limit of a run: LIMIT_MS, and LIMIT_MS_OF_CASE for each case. A case takes some milliseconds, rarely a minute. */
const LIMIT_MS = 300_000
const LIMIT_MS_OF_CASE = 60
const HEX_DIGITS = 8_000

/** npm run fuzz. Returns the exit code. */
async function main(): Promise<number> {
  const options = optionsOf(process.argv.slice(2))
  if (options instanceof Error) {
    process.stderr.write(`${options.message}\n`)
    return 1
  }
  if (options === 'help') {
    process.stdout.write(`${HELP}\n`)
    return 0
  }
  const stage = new Stage('fuzz')
  const end = (why: string) => {
    process.stderr.write(`${why}\n`)
    stage.end(false)
    process.exit(1)
  }
  const cases = [...options.cases.values()].reduce((sum, { from, to }) => sum + to - from, 0)
  const watchdog = setTimeout(() => end('the run did not end by itself'), LIMIT_MS + LIMIT_MS_OF_CASE * cases)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => end(`ended by ${signal}`))
  try {
    const { played, finding } = await play(options, stage)
    process.stdout.write(`${table(played)}\n`)
    if (options.out) writeFileSync(options.out, `${JSON.stringify({ seed: options.seed, played, finding }, null, 2)}\n`)
    if (!finding) return 0
    process.stderr.write(`\n${describe(finding, options)}\n`)
    return 1
  } finally {
    clearTimeout(watchdog)
    stage.end(false)
  }
}

function optionsOf(args: readonly string[]): Options | 'help' | Error {
  try {
    return parseOptions(args)
  } catch (error) {
    return error as Error
  }
}

/** Plays all targets until a rule is broken. `requests` needs CPU and runs beside the other targets, which mostly wait. */
async function play({ seed, cases, build }: Options, stage: Stage) {
  const start: Record<TargetName, () => Promise<Target>> = {
    requests: () => Requests.start(seed, { build, env: stage.env, functions: FUNCTIONS }),
    http2: () => Http2.start(seed, { build, env: stage.env, functions: FUNCTIONS }),
    worker: () => Worker.start(seed, build, stage.env, FUNCTIONS),
    client: () => Client.start(seed, build, stage.env),
  }
  const all: Played[] = []
  const findings: Finding[] = []
  const over = new AbortController()
  const playAll = async (isMine: (target: TargetName) => boolean) => {
    for (const [target, range] of cases) {
      if (!isMine(target) || over.signal.aborted) continue
      const { played, finding } = await fuzz(target, range, start[target], over.signal)
      all.push(played)
      if (!finding) continue
      findings.push(finding)
      over.abort()
    }
  }
  await Promise.all([playAll((target) => target === 'requests'), playAll((target) => target !== 'requests')])
  const left = findings.length > 0 ? [] : await stage.remains()
  if (left.length > 0) throw new Error(`the run left behind: ${left.join(', ')}`)
  return { played: all, finding: findings[0] }
}

function describe({ target, from, to, what, hex }: Finding, { seed, build }: Options): string {
  const only = from === to ? String(from) : `${from}-${to}`
  const cut = hex.length > HEX_DIGITS ? `${hex.slice(0, HEX_DIGITS)}… (${hex.length / 2} bytes)` : hex
  return `A rule is broken: ${what}
target ${target}, seed ${seed}, case ${only}${from === to ? '' : '; none of them breaks it alone'}
bytes ${from === to ? '' : `of case ${to} `}${cut}
Repeat: npm run fuzz -- --target ${target} --seed ${seed} --only ${only}
Build: ${build}`
}

process.exitCode = await main()
