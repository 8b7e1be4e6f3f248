import { writeFileSync } from 'node:fs'
import { plant } from '../chaos/plant.js'
import { Stage } from '../chaos/stage.js'
import { type Summary, summaryOf } from './figures.js'
import { HELP, type Options, parseOptions } from './options.js'
import { type NeighbourReport, table } from './report.js'
import { Street } from './street.js'

/** npm run neighbour */
async function main(): Promise<number> {
  const options = parsed()
  if (typeof options === 'number') return options
  const stage = new Stage()
  const end = (code: number) => {
    stage.end(false)
    process.exit(code)
  }
  // However it goes, it ends, and what is left of it then is killed.
  const watchdog = setTimeout(() => {
    process.stderr.write('the run did not end by itself\n')
    end(1)
  }, limitMs(options))
  process.once('SIGINT', () => end(130)).once('SIGTERM', () => end(143))
  try {
    const report = await play(options, stage)
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

async function play(options: Options, stage: Stage): Promise<NeighbourReport> {
  const build = options.plant ? plant(options.build, options.plant, stage.folder) : options.build
  const street = new Street(options, build, stage)
  const kinds: Summary[] = []
  await street.begin()
  for (const kind of options.kinds) {
    process.stderr.write(`${kind}\n`)
    kinds.push(summaryOf(await street.suffer(kind)))
  }
  await street.end()
  const complaints = [...street.complaints, ...(await stage.remains())]
  return { command: `npm run neighbour -- ${process.argv.slice(2).join(' ')}`, kinds, complaints }
}

/** How slow calls were is for the reader to judge; that each has its result, and that the server lives, is not. */
const isSound = ({ kinds, complaints }: NeighbourReport): boolean =>
  complaints.length === 0 && kinds.every(({ failures }) => Object.keys(failures).length === 0)

/** Everything in it is bounded by itself; this is for what is not. */
const limitMs = ({ kinds, pairs, seconds }: Options): number => (60 + kinds.length * pairs * 3 * (seconds + 30)) * 1_000

process.exitCode = await main()
