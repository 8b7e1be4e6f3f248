import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { describe, expect, it } from 'vitest'
import { runExample } from '../support/examples.js'

describe('the demo', () => {
  it('prints a table of times and speed-ups, and checks its results', async () => {
    const left = () => readdirSync(tmpdir()).filter((name) => name.startsWith('farpool-demo-'))
    const before = left()
    const lines = await runExample('demo', '--quick')
    const header = lines.findIndex((line) =>
      /^operation +items +1 process +\d+ processes +speed-up +local pool$/.test(line),
    )
    expect(header).toBeGreaterThan(0)
    const rows = lines.slice(header + 1).filter((line) => /\d s +[\d.]+ s +[\d.]+ × +[\d.]+ s$/.test(line))
    expect(rows).toHaveLength(6)
    expect(lines.at(-1)).toBe('All runs gave the same results, and a digest computed here agrees.')
    expect(left()).toEqual(before)
  })
})
