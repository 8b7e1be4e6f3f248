import { createHash } from 'node:crypto'
import { renameSync, writeFileSync } from 'node:fs'

/** The token of a name, in tests. */
export const tokenOf = (name: string): string => `fp_token-of-${name}`

export const sha256 = (token: string): string => createHash('sha256').update(token).digest('hex')

/** The entry of a name for the file of --tokens. */
export const entryOf = (name: string, rules: object = {}) => ({ name, sha256: sha256(tokenOf(name)), ...rules })

/** Writes the file as a careful program does: under another name first. A text is written as it is. */
export function writeTokens(path: string, content: readonly object[] | string, mode = 0o640): void {
  const text = typeof content === 'string' ? content : JSON.stringify({ tokens: content })
  writeFileSync(`${path}.new`, text, { mode })
  renameSync(`${path}.new`, path)
}
