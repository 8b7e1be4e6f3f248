import { setTimeout as sleep } from 'node:timers/promises'
import { ATTACKS } from './attacks/attacks.js'
import { Target } from './attacks/target.js'
import type { FromHostile, HostileOptions, ToHostile } from './messages.js'

/** The process of the hostile client: one attack, until it is told to stop. */
const options: HostileOptions = JSON.parse(process.argv[2] ?? '{}')
/** It counts as begun when it has got something done, or after so long. */
const BEGIN_MS = 2_000
/** What is still under way is left so long after it was told to stop. */
const STOP_MS = 1_000
/** It ends then, whatever it was told. */
const LIFE_MS = 120_000

const say = (said: FromHostile) => void process.send?.(said)
let isBegun = false
const begun = () => {
  if (!isBegun) say({ what: 'begun' })
  isBegun = true
}
const target = new Target(options, begun)

async function stop(): Promise<void> {
  const ended = target.stop()
  await Promise.race([ended, sleep(STOP_MS)])
  say({ what: 'stopped', done: target.done })
  process.disconnect()
}

process.on('message', (told: ToHostile) => void (told.what === 'stop' && stop()))
process.on('disconnect', () => process.exit())
setTimeout(() => process.exit(1), LIFE_MS).unref()
setTimeout(begun, BEGIN_MS).unref()

const attack = ATTACKS[options.kind]
if (!attack) throw new Error(`there is no kind ${options.kind}`)
// What an attack makes fail is its own affair; that it goes on is what counts.
process.on('uncaughtException', (error) => target.did(`uncaught ${error.message.slice(0, 60)}`))
target.run(attack)
