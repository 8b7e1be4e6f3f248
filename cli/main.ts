#!/usr/bin/env node
import { Command, CommanderError } from 'commander'
import { packageVersion } from '../wire/package.js'
import { callCommand } from './call-command.js'
import { Exit, fail } from './exit-codes.js'
import { mapCommand } from './map-command.js'
import { serveCommand } from './serve-command.js'
import { functionsCommand, healthCommand, infoCommand } from './show-commands.js'

const program = new Command('farpool')
  .description("Python's multiprocessing.Pool, far away: functions in worker processes behind gRPC")
  .version(packageVersion())
  .addHelpText(
    'after',
    `
Exit codes: 0 success; 1 the call failed, the server could not start or is not serving; 2 the command line or its
input is wrong; 3 no server answers.

Examples:
  farpool serve ./functions.js --processes 4
  farpool call fib 30
  farpool map thumbnail --input items.jsonl --output results.jsonl`,
  )
for (const command of [
  serveCommand(),
  callCommand(),
  mapCommand(),
  functionsCommand(),
  infoCommand(),
  healthCommand(),
]) {
  program.addCommand(command)
}
// By default commander exits with 1 after a wrong command line. Let it throw, so that this file can exit with 2.
for (const command of [program, ...program.commands]) command.exitOverride()

// A reader that closes the pipe early (`| head`) is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(Exit.OK)
  throw error
})

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? Exit.OK : Exit.USAGE
  else fail(error)
}
