import { randomBytes } from 'node:crypto'
import { Argument, Command } from 'commander'
import * as v from 'valibot'
import { digestOf, tokenName } from '../server/auth/token-file.js'
import { bad } from '../server/resolve-config.js'
import { printableJson } from '../wire/printable.js'
import { jsonOption } from './command-options.js'
import { fail } from './exit-codes.js'
import { print } from './output.js'

/** So that a token is recognized where it should not be, for example by a scanner of repositories. */
const PREFIX = 'fp_'
const RANDOM_BYTES = 32

/** farpool token: for the file of `farpool serve --tokens`. */
export const tokenCommand = () =>
  new Command('token').description('make tokens for the file of farpool serve --tokens').addCommand(newCommand())

const newCommand = () =>
  new Command('new')
    .description('print a new token, which is not kept anywhere, and its entry for the file of farpool serve --tokens')
    .addArgument(new Argument('<name>', 'who gets the token'))
    .addOption(jsonOption())
    .action(async (name: string, { json }: { json?: true }) => {
      try {
        const checked = v.safeParse(tokenName, name)
        if (!checked.success) bad('name', name, checked.issues[0].message)
        const token = `${PREFIX}${randomBytes(RANDOM_BYTES).toString('base64url')}`
        const sha256 = digestOf(token).toString('hex')
        const text = `${token}\n\nIts entry for the file of --tokens, which does not contain the token:\n\n  - name: ${printableJson(name)}\n    sha256: "${sha256}"\n`
        await print(json ? `${printableJson({ token, entry: { name, sha256 } })}\n` : text)
      } catch (error) {
        await fail(error, json)
      }
    })
