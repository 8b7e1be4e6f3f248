import { mkdtempSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Status } from '../proto/gen/google/rpc/status.js'
import { type RunningServer, type ServeOptions, serve } from '../server/index.js'
import { asFailure, failureToStatus } from '../wire/failure.js'
import { decodePayload } from '../wire/values/payload.js'

/**
 * The server process of Pool.local (client/local.ts starts it). Its owner, the parent process, talks to it like this:
 *
 * - The first line of standard input holds the options: CBOR in base64.
 * - One line of JSON on file descriptor 3 answers: the address and the number of processes, or the status of a failure.
 * - SIGTERM drains the server.
 * - The end of standard input stops it at once: the owner closed the pipe or died.
 */
const ANSWER_FD = 3

const input = createInterface({ input: process.stdin })
const ownerGone = new Promise<void>((resolve) => input.once('close', resolve))
const line = await Promise.race([
  new Promise<string>((resolve) => input.once('line', resolve)),
  ownerGone.then(() => ''),
])
// mkdtemp makes the folder with mode 0700: no other user can reach the socket.
const directory = mkdtempSync(join(tmpdir(), 'farpool-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
const answer = (message: object) => writeSync(ANSWER_FD, `${JSON.stringify(message)}\n`)

let server: RunningServer | undefined
const exitAfter = (end: () => Promise<void>) => void end().finally(() => process.exit(0))
// During the start there is no server to stop: the workers end with this process (pool/process/launcher.ts).
void ownerGone.then(() => (server ? exitAfter(server.stop) : process.exit(1)))

try {
  const options = decodePayload(Buffer.from(line, 'base64')).value as Omit<ServeOptions, 'listen'>
  const started = await serve({ ...options, listen: `unix:${join(directory, 'farpool.sock')}`, ownsFolder: true })
  server = started
  process.on('SIGTERM', () => exitAfter(started.drain))
  // Ctrl-C reaches the whole process group. The owner handles it and ends this process as described above.
  process.on('SIGINT', () => {})
  answer({ address: started.address, processes: started.config.processes })
} catch (error) {
  answer({ status: Buffer.from(Status.encode(failureToStatus(asFailure(error))).finish()).toString('base64') })
  process.exit(1)
}
