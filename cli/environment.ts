import type { Command } from 'commander'
import { nearest } from '../wire/nearest.js'
import { UsageError } from './exit-codes.js'

/** The token of a client. No option has this variable: command lines can be seen by other users of the machine. */
export const TOKEN_VARIABLE = 'FARPOOL_TOKEN'

/**
 * What Kubernetes sets in each container for each service of its namespace, also for one named farpool: NAME=VALUE. Docker's
 * links look the same.
 */
const OF_SERVICES =
  /_SERVICE_HOST=|_SERVICE_PORT(_\w+)?=\d+$|_PORT=\w+:\/\/|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=/

/** @throws UsageError for a variable FARPOOL_… that no command reads: a misspelt limit must not go unnoticed. */
export function checkEnvironment(commands: readonly Command[], environment: NodeJS.ProcessEnv): void {
  const known = new Set([...commands.flatMap(variablesOf), TOKEN_VARIABLE])
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith('FARPOOL_') || known.has(name) || OF_SERVICES.test(`${name}=${value}`)) continue
    const [near] = nearest(name, known)
    const hint = near ? `did you mean ${near}?` : 'farpool serve --help lists them'
    throw new UsageError(`the environment has ${name}, which farpool does not know; ${hint}`)
  }
}

/** The variables that are there and that only other commands read: FARPOOL_TOKEN where FARPOOL_TOKENS is meant, for example. */
export const unreadVariables = (command: Command, environment: NodeJS.ProcessEnv): string[] => {
  const read = new Set(variablesOf(command))
  return Object.entries(environment).flatMap(([name, value]) =>
    name.startsWith('FARPOOL_') && !read.has(name) && !OF_SERVICES.test(`${name}=${value}`) ? name : [],
  )
}

const variablesOf = ({ options }: Command): string[] => options.flatMap(({ envVar }) => envVar ?? [])
