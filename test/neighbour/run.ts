import { writeFileSync } from 'node:fs'
import { plant } from '../chaos/plant.js'
import { Stage } from '../chaos/stage.js'
import { Experiment } from './experiment.js'
import { type Summary, summaryOf } from './figures.js'
import { HELP, type Options, parseOptions } from './options.js'
import { type NeighbourReport, table } from './report.js'

/** npm run neighbour. Returns the exit code. */
async function main(): Promise<number> {
  const options = parsed()
  if (typeof options === 'number') return options
  const stage = new Stage()
  const end = (code: number) => {
    stage.end(false)
    process.exit(code)
  }
  // A run that hangs ends here; the stage kills its remaining processes.
  const watchdog = setTimeout(() => {
    process.stderr.write('the run did not end by itself\n')
    end(1)
  }, limitMs(options))
  process.once('SIGINT', () => end(130)).once('SIGTERM', () => end(143))
  try {
    const report = await runKinds(options, stage)
    process.stdout.write(`${table(report)}\n`)
    if (options.out) writeFileSync(options.out, `${JSON.stringify(report, null, 2)}\n`)
    return isSound(report) ? 0 : 1
  } finally {
    clearTimeout(watchdog)
    stage.end(false)
  }
}

function parsed(): Options | number {
  try {
    const options = parseOptions(process.argv.slice(2))
    if (options !== 'help') return options
    process.stdout.write(`${HELP}\n`)
    return 0
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`)
    return 2
  }
}

async function runKinds(options: Options, stage: Stage): Promise<NeighbourReport> {
  const build = options.plant ? plant(options.build, options.plant, stage.folder) : options.build
  const experiment = new Experiment(options, build, stage)
  const kinds: Summary[] = []
  await experiment.begin()
  for (const kind of options.kinds) {
    process.stderr.write(`${kind}\n`)
    kinds.push(summaryOf(await experiment.measureKind(kind)))
  }
  await experiment.end()
  const complaints = [...experiment.complaints, ...(await stage.remains())]
  return { command: `npm run neighbour -- ${process.argv.slice(2).join(' ')}`, kinds, complaints }
}

/** True if every call had its result and the server survived. The reader judges the latencies. */
const isSound = ({ kinds, complaints }: NeighbourReport): boolean =>
  complaints.length === 0 && kinds.every(({ failures }) => Object.keys(failures).length === 0)

/** A generous limit of the whole run, in milliseconds. Each step also has its own limit. */
const limitMs = ({ kinds, pairs, seconds }: Options): number => (60 + kinds.length * pairs * 3 * (seconds + 30)) * 1_000

process.exitCode = await main()
