import { setTimeout as sleep } from 'node:timers/promises'
import { clientOfBuild, isFarpoolError } from '../chaos/farpool.js'
import type { FromInnocent, InnocentOptions, Measured, ToInnocent } from './messages.js'

/**
 * The process of the innocent client. It calls at a steady pace, whatever becomes of the calls before: each time counts
 * from when its call was due, so that what is late because the process or the server was busy counts as waiting.
 */
const options: InnocentOptions = JSON.parse(process.argv[2] ?? '{}')
const { Pool } = await clientOfBuild(options.build)
const pool = new Pool(options.address)

/** A call that has no outcome after so long counts as one that failed, and as long as that. */
const TIMEOUT_MS = 20_000
/** What ten calls in a row do: milliseconds of work, or a small map. */
const MIX = [0, 1, 0, 'map', 0, 1, 0, 10, 0, 1] as const
const ITEMS = [1, 2, 3, 4, 5, 6, 7, 8]
const DOUBLED = JSON.stringify(ITEMS.map((n) => 2 * n))

let calls = 0

async function one(what: (typeof MIX)[number]): Promise<string | undefined> {
  const call = ++calls
  try {
    if (what === 'map') {
      const doubled = await pool.map('twice', ITEMS, { timeout: TIMEOUT_MS })
      return JSON.stringify(doubled) === DOUBLED ? undefined : 'WRONG'
    }
    const result = await pool.apply('work', [call, what], undefined, { timeout: TIMEOUT_MS })
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
    const what = MIX[at % MIX.length] ?? 0
    begun.push(
      one(what).then((failure) => {
        const times = what === 0 ? tiny : other
        times.push(performance.now() - due)
        if (failure !== undefined) failures[failure] = (failures[failure] ?? 0) + 1
      }),
    )
  }
  await Promise.all(begun)
  return { tiny, other, failures }
}

const say = (said: FromInnocent) => void process.send?.(said)

process.on('message', async (told: ToInnocent) => {
  if (told.what === 'measure') return say({ what: 'measured', ...(await measure(told.seconds)) })
  await pool.terminate()
  process.disconnect()
})
// The harness is gone: so is the reason to go on.
process.on('disconnect', () => process.exit())
for (const what of MIX) await one(what)
say({ what: 'ready' })
