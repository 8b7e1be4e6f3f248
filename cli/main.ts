#!/usr/bin/env node
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js'
import { Command, CommanderError } from 'commander'
import { packageVersion } from '../wire/package.js'
import { printable } from '../wire/printable.js'
import { callCommand } from './call-command.js'
import { completeCommand, completionCommand } from './completion-command.js'
import { checkEnvironment } from './environment.js'
import { Exit, fail, UsageError } from './exit-codes.js'
import { mapCommand } from './map-command.js'
import { checkCommand, failToStart, logFormatIn, serveCommand } from './serve-command.js'
import { functionsCommand, healthCommand, infoCommand } from './show-commands.js'
import { tokenCommand } from './token-command.js'

const program = new Command('farpool')
  .description("Python's multiprocessing.Pool, far away: functions in worker processes behind gRPC")
  .version(packageVersion())
  .addHelpText(
    'after',
    `
Exit codes: 0 success; 1 the call failed, results could not be written, the server could not start or is not serving;
2 the command line or its input is wrong; 3 no server answers.

Examples:
  farpool serve ./functions.js --processes 4
  farpool call fib 30
  farpool map thumbnail --input items.jsonl --output results.jsonl`,
  )
for (const command of [
  serveCommand(),
  checkCommand(),
  callCommand(),
  mapCommand(),
  functionsCommand(),
  infoCommand(),
  healthCommand(),
  tokenCommand(),
  completionCommand(),
]) {
  program.addCommand(command)
}
program.addCommand(completeCommand(), { hidden: true })

program.hook('preAction', () => checkEnvironment(program.commands, process.env))

// How errors of the command line itself are printed: they come before its options are known.
const words = process.argv.slice(2)
const log = words[0] === 'serve' ? logFormatIn(words) : undefined
const json = !log && words.some((word, at) => word === '--json' && !words.slice(0, at).includes('--'))
const report = (error: unknown) => (log ? failToStart(error, log) : fail(error, json))
const isForPeople = !json && log !== 'json'

// By default commander exits with 1 after a wrong command line. Let it throw, so that this file can exit with 2.
for (const command of [program, ...program.commands, ...program.commands.flatMap(({ commands }) => commands)]) {
  command.exitOverride().configureOutput({ writeErr: (text) => isForPeople && process.stderr.write(printable(text)) })
}

// Each command reports by itself that its output could not be written. What is left is help, or a log without a reader.
process.stdout.on('error', () => {})
process.stderr.on('error', () => {})

// grpc-js prints some errors besides reporting them.
if (!process.env['GRPC_VERBOSITY'] && !process.env['GRPC_NODE_VERBOSITY']) setLogVerbosity(logVerbosity.NONE)

try {
  await program.parseAsync()
} catch (error) {
  if (!(error instanceof CommanderError)) await report(error)
  else if (error.exitCode !== 0) {
    process.exitCode = Exit.USAGE
    if (!isForPeople) await report(new UsageError(usage(error)))
  }
}

/** Without a command, commander prints the help and has no message. */
function usage({ code, message }: CommanderError): string {
  return code === 'commander.help' ? 'there is no command; farpool --help lists them' : message.replace(/^error: /, '')
}
