import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const built = (name: string) => fileURLToPath(new URL(`../../dist/examples/${name}.js`, import.meta.url))

async function run(name: string, ...args: string[]): Promise<string[]> {
  const child = spawn(process.execPath, [built(name), ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const [code] = await once(child, 'close')
  expect([name, code]).toEqual([name, 0])
  return output.trim().split('\n')
}

describe('the demo', () => {
  it('prints a table of times and speed-ups, and checks its results', async () => {
    const left = () => readdirSync(tmpdir()).filter((name) => name.startsWith('farpool-demo-'))
    const before = left()
    const lines = await run('demo', '--quick')
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
