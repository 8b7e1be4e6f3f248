import { setTimeout as sleep } from 'node:timers/promises'
import { ATTACKS } from './attacks/attacks.js'
import { Target } from './attacks/target.js'
import type { HostileCommand, HostileOptions, HostileReport } from './messages.js'

/** The process of the hostile client: it runs one attack until it receives the command to stop. */
const options: HostileOptions = JSON.parse(process.argv[2] ?? '{}')
/** The attack counts as begun with its first result, at the latest after this time. */
const BEGIN_MS = 2_000
/** The time after `stop` for requests that are under way. */
const STOP_MS = 1_000
/** The process exits after this time in any case. */
const LIFE_MS = 120_000

const report = (message: HostileReport) => void process.send?.(message)
let isBegun = false
const begun = () => {
  if (!isBegun) report({ type: 'begun' })
  isBegun = true
}
const target = new Target(options, begun)

async function stop(): Promise<void> {
  const ended = target.stop()
  await Promise.race([ended, sleep(STOP_MS)])
  report({ type: 'stopped', done: target.done })
  process.disconnect()
}

process.on('message', (command: HostileCommand) => void (command.type === 'stop' && stop()))
process.on('disconnect', () => process.exit())
setTimeout(() => process.exit(1), LIFE_MS).unref()
setTimeout(begun, BEGIN_MS).unref()

const attack = ATTACKS[options.kind]
if (!attack) throw new Error(`there is no kind of attack ${options.kind}`)
// An attack may make its own client fail. Count the error and go on.
process.on('uncaughtException', (error) => target.did(`uncaught ${error.message.slice(0, 60)}`))
target.run(attack)
