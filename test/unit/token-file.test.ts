import { afterAll, expect, it } from 'vitest'
import { TokenFile } from '../../server/auth/token-file.js'
import { temporaryFolder, until } from '../support/server.js'
import { entryOf, writeTokens } from '../support/tokens.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())

it('a file of tokens whose change cannot be put into force is reported, and its next change is read', async () => {
  const path = folder.fresh()
  writeTokens(path, [entryOf('ann')])
  const changes: string[][] = []
  const errors: unknown[] = []
  const fault = new Error('a revoked call cannot be ended')
  const file = await TokenFile.open(path, {
    changed: (entries) => {
      changes.push(entries.map(({ name }) => name))
      if (changes.length === 2) throw fault
    },
    broken: (error) => errors.push(error),
  })
  try {
    writeTokens(path, [entryOf('bob')])
    await until(() => errors.length > 0, 'the fault is reported')
    writeTokens(path, [entryOf('eve')])
    await until(() => changes.length > 2, 'the next change is read')
    expect([changes, errors]).toEqual([[['ann'], ['bob'], ['eve']], [fault]])
  } finally {
    file.close()
  }
})
