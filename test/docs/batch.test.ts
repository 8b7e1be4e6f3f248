import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { DocsProject } from '../support/docs.js'

const PAGE = 'docs/how-to/batch.md'

describe(PAGE, () => {
  it('reads 20,000 files, and reports each broken one with its error', async () => {
    await using project = await DocsProject.create()
    await project.runPage(PAGE)
    expect(readdirSync(join(project.folder, 'receipts'))).toHaveLength(20_000)
    const lines = readFileSync(join(project.folder, 'failed.jsonl'), 'utf8').trim().split('\n')
    const failed = lines.map((line) => JSON.parse(line) as { file: string; type: string; message: string })
    const byFile = failed.toSorted((a, b) => (a.file < b.file ? -1 : 1))
    expect(byFile.map(({ file, type }) => [file, type])).toEqual([
      ['receipts/00017.json', 'SyntaxError'],
      ['receipts/04000.json', 'SyntaxError'],
      ['receipts/08001.json', 'TypeError'],
      ['receipts/10000.json', 'Error'],
      ['receipts/12345.json', 'TypeError'],
      ['receipts/15000.json', 'RangeError'],
      ['receipts/19999.json', 'SyntaxError'],
    ])
    expect(byFile[3]?.message).toContain('EISDIR')
    expect(byFile[5]?.message).toContain('a price is "free", not a number of cents')
  })
})
