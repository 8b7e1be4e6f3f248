import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const CLIENT = new URL('../../dist/client/index.js', import.meta.url).href

/** A client in a process of its own, to be killed. The code is that of a module; `Pool` and the rest are imported. */
export function runClient(code: string): ChildProcess {
  const source = `import { Pool, partial } from ${JSON.stringify(CLIENT)}\n${code}`
  return spawn(process.execPath, ['--input-type=module', '--eval', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  })
}
