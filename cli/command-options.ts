import { readFileSync } from 'node:fs'
import { Argument, Command, InvalidArgumentError, Option } from 'commander'
import type { PoolOptions, TlsOptions } from '../client/index.js'
import { boolean, OPTIONS, type OptionSpec } from '../server/option-table.js'
import { reachedAt } from '../wire/address.js'
import { reasonOf } from '../wire/values/value-errors.js'
import { addOption, givenFor } from './configuration.js'
import { TOKEN_VARIABLE } from './environment.js'
import { UsageError } from './exit-codes.js'

const TLS: OptionSpec = {
  name: 'tls',
  about: 'use TLS, and check the certificate of the server; the other TLS options imply it',
  schema: boolean,
  default: false,
}

/**
 * A command that talks to a server: all but `serve`, `check` and `completion`. The variables FARPOOL_TLS_CERT and
 * FARPOOL_TLS_KEY belong to the server, so that one container can have both.
 */
export function clientCommand(name?: string): Command {
  // A container has the address of its server in its environment.
  const listen = OPTIONS.listen.default
  const address = new Option('-a, --address <address>', 'address of the server: host:port or unix:/path')
    .env('FARPOOL_ADDRESS')
    .default(reachedAt(process.env['FARPOOL_LISTEN'] || listen), `FARPOOL_LISTEN, else ${listen}`)
  const ca = new Option('--tls-ca <file>', 'PEM file of the CAs of the server (default: those that Node trusts)')
  const cert = new Option('--tls-cert <file>', 'PEM file of a client certificate, for a server that wants one')
  const key = new Option('--tls-key <file>', 'PEM file of the private key of the client certificate')
  const serverName = new Option(
    '--tls-server-name <name>',
    'name that the certificate of the server must have (default: the host of the address)',
  )
  const command = new Command(name).addOption(address)
  return addOption(command, TLS)
    .addOption(ca.env('FARPOOL_TLS_CA'))
    .addOption(cert.env('FARPOOL_TLS_CLIENT_CERT'))
    .addOption(key.env('FARPOOL_TLS_CLIENT_KEY'))
    .addOption(serverName.env('FARPOOL_TLS_SERVER_NAME'))
}

/** One that also asks about a shared pool, or calls a function in it, with a token if the server wants one. */
export const poolCommand = (name?: string): Command =>
  clientCommand(name)
    .addOption(tokenOption())
    .addOption(new Option('--pool <name>', 'the shared pool of the server').env('FARPOOL_POOL').default('default'))

/** What the options of such a command say about the connection and the pool. @throws Failure BAD_REQUEST. */
export function connectionOf(command: Command): Pick<PoolOptions, 'token' | 'pool'> & { tls: TlsOptions | false } {
  const { pool, tokenFile, tlsCa, tlsCert, tlsKey, tlsServerName } = command.opts<Record<string, string | undefined>>()
  const tls: TlsOptions = {
    ...(tlsCa !== undefined && { ca: tlsCa }),
    ...(tlsCert !== undefined && { cert: tlsCert }),
    ...(tlsKey !== undefined && { key: tlsKey }),
    ...(tlsServerName !== undefined && { serverName: tlsServerName }),
  }
  const isOn = givenFor(command, TLS)?.value ?? Object.keys(tls).length > 0
  return { tls: isOn ? tls : false, ...(pool !== undefined && { pool, ...tokenOf(tokenFile) }) }
}

/** The function that `call` and `map` call. */
export const functionArgument = () => new Argument('<function>', 'the name of the function')

/** The token of a client. No option takes the token itself: other users of the machine can see command lines. */
const tokenOption = () =>
  new Option('--token-file <file>', `file with the token (default: the token in ${TOKEN_VARIABLE}, if there is one)`)

/** The token that the command line or the environment gives. A file is read for each connection: it may get a new token. */
function tokenOf(tokenFile: string | undefined): Pick<PoolOptions, 'token'> {
  if (tokenFile !== undefined) {
    readToken(tokenFile)
    return { token: () => readToken(tokenFile) }
  }
  const token = process.env[TOKEN_VARIABLE]?.trim()
  return token ? { token } : {}
}

/** @throws UsageError if the file cannot be read, or is empty. */
function readToken(path: string): string {
  let token: string
  try {
    token = readFileSync(path, 'utf8').trim()
  } catch (error) {
    throw new UsageError(`cannot read --token-file: ${reasonOf(error)}`)
  }
  if (token === '') throw new UsageError(`--token-file is ${path}, which has no token in it`)
  return token
}

/** Output for scripts. */
export const jsonOption = () => new Option('--json', 'print one JSON object, also for an error')

/** The value of one option on a command line that may be wrong; undefined if the option itself is wrong. */
export function valueIn(option: Option, words: readonly string[]): unknown {
  const command = new Command().addOption(option).helpOption(false).allowUnknownOption().allowExcessArguments()
  command.exitOverride().configureOutput({ writeErr: () => {} })
  try {
    return command.parse([...words], { from: 'user' }).opts()[option.attributeName()]
  } catch {
    return undefined
  }
}

/** The options of a command as far as these words set them; they may be wrong otherwise. */
export function optionsIn(command: Command, words: readonly string[]): Record<string, unknown> {
  command.helpOption(false).allowUnknownOption().allowExcessArguments()
  command.exitOverride().configureOutput({ writeErr: () => {} })
  try {
    return command.parse([...words], { from: 'user' }).opts()
  } catch {
    return {}
  }
}

/** Reads an option's value that is an integer of at least `least`. */
export const count =
  (least = 1) =>
  (text: string): number => {
    const value = Number(text)
    if (text.trim() !== '' && Number.isSafeInteger(value) && value >= least) return value
    throw new InvalidArgumentError(`it must be an integer, ${least} or more.`)
  }

/** Reads an option's value that is a JSON array or a JSON object. */
export const json =
  (kind: 'array' | 'object') =>
  (text: string): unknown => {
    try {
      const value: unknown = JSON.parse(text)
      if (
        kind === 'array' ? Array.isArray(value) : typeof value === 'object' && value !== null && !Array.isArray(value)
      )
        return value
    } catch {}
    throw new InvalidArgumentError(`it must be a JSON ${kind}.`)
  }

/**
 * Reads an argument of a call. Valid JSON is parsed, any other text is passed as a string: `fib 30` passes a number,
 * `hello Ann` passes a string.
 *
 * @throws UsageError for text that begins like a JSON array, object or string but is not valid JSON.
 */
export function callArgument(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    if (/^\s*[[{"]/.test(text))
      throw new UsageError(`the argument ${text} looks like JSON but is not; quote it for your shell`)
    return text
  }
}
