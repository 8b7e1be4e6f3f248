import { setTimeout as sleep } from 'node:timers/promises'
import { clientOfBuild, isFarpoolError } from '../chaos/farpool.js'
import type { InnocentCommand, InnocentOptions, InnocentReport, Measured } from './messages.js'

/**
 * The process of the innocent client. It calls at a steady rate and does not wait for earlier calls. Each time is measured
 * from the moment when its call was due, so a delay counts even if this process was too busy to send the call.
 */
const options: InnocentOptions = JSON.parse(process.argv[2] ?? '{}')
const { Pool } = await clientOfBuild(options.build)
const pool = new Pool(options.address)

/** A call without an outcome after this time fails. */
const TIMEOUT_MS = 20_000
/** The kinds of ten calls in a row: an apply with this many milliseconds of work, or a small map. */
const MIX = [0, 1, 0, 'map', 0, 1, 0, 10, 0, 1] as const
const ITEMS = [1, 2, 3, 4, 5, 6, 7, 8]
const DOUBLED = JSON.stringify(ITEMS.map((n) => 2 * n))

let calls = 0

/** Resolves with undefined after the right result, else with the reason. */
async function callOnce(kind: (typeof MIX)[number]): Promise<string | undefined> {
  const call = ++calls
  try {
    if (kind === 'map') {
      const doubled = await pool.map('twice', ITEMS, { timeout: TIMEOUT_MS })
      return JSON.stringify(doubled) === DOUBLED ? undefined : 'WRONG'
    }
    const result = await pool.apply('work', [call, kind], undefined, { timeout: TIMEOUT_MS })
    return result === `${call}:${call * 7}` ? undefined : 'WRONG'
  } catch (error) {
    return isFarpoolError(error) ? error.reason : String(error)
  }
}

async function measure(seconds: number): Promise<Measured> {
  const tiny: number[] = []
  const other: number[] = []
  const failures: Record<string, number> = {}
  const every = 1_000 / options.rate
  const begun: Promise<void>[] = []
  const from = performance.now()
  for (let at = 0; at < seconds * options.rate; at++) {
    const due = from + at * every
    const early = due - performance.now()
    if (early > 0) await sleep(early)
    const kind = MIX[at % MIX.length] ?? 0
    begun.push(
      callOnce(kind).then((failure) => {
        const times = kind === 0 ? tiny : other
        times.push(performance.now() - due)
        if (failure !== undefined) failures[failure] = (failures[failure] ?? 0) + 1
      }),
    )
  }
  await Promise.all(begun)
  return { tiny, other, failures }
}

const report = (message: InnocentReport) => void process.send?.(message)

process.on('message', async (command: InnocentCommand) => {
  if (command.type === 'measure') return report({ type: 'measured', ...(await measure(command.seconds)) })
  await pool.terminate()
  process.disconnect()
})
// The main process of the harness has ended.
process.on('disconnect', () => process.exit())
// Warm up.
for (const kind of MIX) await callOnce(kind)
report({ type: 'ready' })
