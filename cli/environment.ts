import type { Command } from 'commander'
import { nearest } from '../wire/nearest.js'
import { UsageError } from './exit-codes.js'

/** The token of a client. No option has this variable: command lines can be seen by other users of the machine. */
export const TOKEN_VARIABLE = 'FARPOOL_TOKEN'

/** Kubernetes sets such variables in each container, for each service of its namespace, also for one named farpool. */
const OF_SERVICES = /_SERVICE_(HOST|PORT(_.*)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$/

/** @throws UsageError for a variable FARPOOL_… that no command reads: a misspelt limit must not go unnoticed. */
export function checkEnvironment(commands: readonly Command[], environment: NodeJS.ProcessEnv): void {
  const ofOptions = commands.flatMap(({ options }) => options.flatMap(({ envVar }) => envVar ?? []))
  const known = new Set([...ofOptions, TOKEN_VARIABLE])
  for (const name of Object.keys(environment)) {
    if (!name.startsWith('FARPOOL_') || known.has(name) || OF_SERVICES.test(name)) continue
    const [near] = nearest(name, known)
    const hint = near ? `did you mean ${near}?` : 'farpool serve --help lists them'
    throw new UsageError(`the environment has ${name}, which farpool does not know; ${hint}`)
  }
}
