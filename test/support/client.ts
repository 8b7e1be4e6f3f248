import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const CLIENT = new URL('../../dist/client/index.js', import.meta.url).href

/**
 * Runs a client in its own process, which a test can kill. The code is a module that finds `Pool` and `partial` imported.
 * @param prefix a command that runs the command in its arguments, for example `['nice']`.
 */
export function runClient(code: string, prefix: readonly string[] = []) {
  // The client exits with the tests, even if they are killed.
  const end = 'process.stdin.on("end", () => process.exit(1)).resume().unref()'
  const source = `import { Pool, partial } from ${JSON.stringify(CLIENT)}\n${end}\n${code}`
  const [command = '', ...args] = [...prefix, process.execPath, '--input-type=module', '--eval', source]
  return spawn(command, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  })
}
