import { type Command, Option } from 'commander'
import { Pool } from '../client/index.js'
import { printableJson } from '../wire/printable.js'
import {
  callArgument,
  connectionOf,
  count,
  functionArgument,
  json,
  jsonOption,
  poolCommand,
} from './command-options.js'
import { fail } from './exit-codes.js'
import { print } from './output.js'

interface Options {
  address: string
  kwargs?: Record<string, unknown>
  timeout?: number
  retries?: number
  json?: boolean
}

/** farpool call: calls a function once. */
export const callCommand = () =>
  poolCommand('call')
    .description('call a function and print its result as JSON')
    .addArgument(functionArgument())
    .argument('[args...]', 'the arguments, each as JSON or plain text')
    .addOption(new Option('-k, --kwargs <json>', 'keyword arguments, as a JSON object').argParser(json('object')))
    .addOption(
      new Option(
        '-t, --timeout <ms>',
        'fail if there is no result after this many milliseconds (default: no limit)',
      ).argParser(count()),
    )
    .addOption(
      new Option(
        '--retries <n>',
        'how often to run the task again if its worker dies (default: set by the function)',
      ).argParser(count(0)),
    )
    .addOption(jsonOption())
    .action(async (name: string, args: string[], options: Options, command: Command) => {
      try {
        await using pool = new Pool(options.address, { encoding: 'json', ...connectionOf(command) })
        const { timeout, retries } = options
        const result: unknown = await pool.apply(name, args.map(callArgument), options.kwargs, {
          ...(timeout !== undefined && { timeout }),
          ...(retries !== undefined && { retries }),
        })
        await print(`${options.json ? printableJson({ ok: true, result }) : printableJson(result, 2)}\n`)
      } catch (error) {
        await fail(error, options.json)
      }
    })
