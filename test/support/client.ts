import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const CLIENT = new URL('../../dist/client/index.js', import.meta.url).href

/**
 * A client in a process of its own, to be killed. The code is that of a module; `Pool` and the rest are imported.
 * @param prefix a command that ends in the one which is given to it, as `nice` does.
 */
export function runClient(code: string, prefix: readonly string[] = []): ChildProcess {
  // Ends with the tests, also when they are killed.
  const end = 'process.stdin.on("end", () => process.exit(1)).resume().unref()'
  const source = `import { Pool, partial } from ${JSON.stringify(CLIENT)}\n${end}\n${code}`
  const [command = '', ...args] = [...prefix, process.execPath, '--input-type=module', '--eval', source]
  return spawn(command, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  })
}
