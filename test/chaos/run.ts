import { writeFileSync } from 'node:fs'
import { Chaos } from './chaos.js'
import { deaths } from './deaths.js'
import { Host } from './network.js'
import { HELP, type Options, parseOptions } from './options.js'
import { plant } from './plant.js'
import { deathsTable, rollingTable, table } from './report.js'
import { rolling } from './rolling.js'
import { Stage } from './stage.js'

/** npm run chaos. Returns the exit code. */
async function main(): Promise<number> {
  let options: Options | 'help'
  try {
    options = parseOptions(process.argv.slice(2))
  } catch (error) {
    process.stderr.write(`chaos: ${error instanceof Error ? error.message : error}\n`)
    return 2
  }
  if (options === 'help') {
    process.stdout.write(`${HELP}\n`)
    return 0
  }
  const stage = new Stage()
  // A run that hangs ends here; the stage kills its remaining processes.
  const watchdog = setTimeout(() => {
    process.stderr.write(`the run did not end by itself; its histories are in ${stage.folder}\n`)
    stage.end(true)
    process.exit(1)
  }, limitMs(options))
  let isBroken = true
  try {
    isBroken = await runScenario(options, stage)
  } finally {
    clearTimeout(watchdog)
    stage.end(isBroken || options.keep)
    if (isBroken) {
      process.stderr.write(`\nA rule is broken. Histories: ${stage.folder}\nRepeat: ${options.command}\n`)
    }
  }
  return isBroken ? 1 : 0
}

/** Runs the scenario of the options and prints its report. Resolves with true if a rule is broken. */
async function runScenario(options: Options, stage: Stage): Promise<boolean> {
  const build = options.plant ? plant(options.build, options.plant, stage.folder) : options.build
  const { text, report, isBroken } = await (options.deaths > 0
    ? runDeaths
    : options.rolling > 0
      ? runRolling
      : runChaos)(options, build, stage)
  process.stdout.write(`${text}\n`)
  if (options.out) writeFileSync(options.out, `${JSON.stringify(report, null, 2)}\n`)
  return isBroken
}

async function runChaos(options: Options, build: string, stage: Stage) {
  const isSoak = options.soak > 0
  await using host = options.pace.partition > 0 ? await Host.join(100) : undefined
  const report = await new Chaos(options, build, stage, host).run(
    options.pace,
    isSoak ? options.soak : options.seconds,
    isSoak,
  )
  return { text: table(report), report, isBroken: report.violations.length + report.complaints.length > 0 }
}

async function runDeaths(options: Options, build: string, stage: Stage) {
  const report = await deaths(options.deaths, build, stage)
  const { lost, processesLeft, filesLeft } = report
  return { text: deathsTable(report), report, isBroken: lost + processesLeft.length + filesLeft.length > 0 }
}

async function runRolling(options: Options, build: string, stage: Stage) {
  const report = await rolling(options, build, stage)
  return {
    text: rollingTable(report),
    report,
    isBroken: report.failed + report.violations.length + report.complaints.length > 0,
  }
}

/** A generous limit of the whole run, in milliseconds. Each step also has its own limit. */
const limitMs = ({ seconds, soak, deaths, rolling, settle }: Options): number =>
  (Math.max(seconds, soak) + 2 * settle + 30 * (deaths + rolling) + 300) * 1_000

process.exitCode = await main()
