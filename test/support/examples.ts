import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'

export const builtExample = (name: string) => fileURLToPath(new URL(`../../dist/examples/${name}.js`, import.meta.url))

/** Runs a program of examples/. Returns the lines that it has printed; the test fails if it does not exit with 0. */
export async function runExample(name: string, ...args: string[]): Promise<string[]> {
  const child = spawn(process.execPath, [builtExample(name), ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const [code] = await once(child, 'close')
  expect([name, code]).toEqual([name, 0])
  return output.trim().split('\n')
}
