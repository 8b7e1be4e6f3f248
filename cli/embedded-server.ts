import { mkdtempSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Status } from '../proto/gen/google/rpc/status.js'
import { type RunningServer, type ServeOptions, serve } from '../server/index.js'
import { asFailure, failureToStatus } from '../wire/failure.js'
import { decodePayload } from '../wire/values/payload.js'

/**
 * The server of Pool.local (client/local.ts). Its options are the first line of standard input; what it says goes to
 * file descriptor 3 as one line; the end of standard input is the end of its owner, and so of itself.
 */
const READY_FD = 3

const input = createInterface({ input: process.stdin })
const ownerGone = new Promise<void>((resolve) => input.once('close', resolve))
const line = await Promise.race([
  new Promise<string>((resolve) => input.once('line', resolve)),
  ownerGone.then(() => ''),
])
// Only its owner may enter: mkdtemp makes it with mode 0700.
const directory = mkdtempSync(join(tmpdir(), 'farpool-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
const say = (said: object) => writeSync(READY_FD, `${JSON.stringify(said)}\n`)

let server: RunningServer | undefined
const end = (how: () => Promise<void>) => void how().finally(() => process.exit(0))
// While it is still starting, its workers end with it (pool/process/launcher.ts).
void ownerGone.then(() => (server ? end(server.stop) : process.exit(1)))

try {
  const options = decodePayload(Buffer.from(line, 'base64')).value as Omit<ServeOptions, 'listen'>
  const started = await serve({ ...options, listen: `unix:${join(directory, 'farpool.sock')}`, ownsFolder: true })
  server = started
  process.on('SIGTERM', () => end(started.drain))
  // Ctrl-C is for the owner; what it does about it, it tells us.
  process.on('SIGINT', () => {})
  say({ address: started.address, processes: started.config.processes })
} catch (error) {
  say({ status: Buffer.from(Status.encode(failureToStatus(asFailure(error))).finish()).toString('base64') })
  process.exit(1)
}
