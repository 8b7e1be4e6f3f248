import { readdirSync } from 'node:fs'
import { type Host, whyNoHosts } from '../chaos/network.js'
import { ServerProcess } from '../support/server.js'

const why = whyNoHosts()
export const isNowhere = why !== ''
/** Behind the name of a test that does not run. */
export const notHere = isNowhere ? ` (not here: ${why})` : ''

/** What vanishes is found by pings, and then tried to be reached for a while: longer than other tests may take. */
export const VANISHED_MS = 300_000

/** A server that runs on the host. */
export const serveOn = (host: Host, ...args: string[]): Promise<ServerProcess> =>
  ServerProcess.start([...args, '--listen', `${host.address}:0`], undefined, host.prefix)

export const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length
