import { readdirSync } from 'node:fs'
import { type Host, whyNoHosts } from '../chaos/network.js'
import { ServerProcess } from '../support/server.js'

const why = whyNoHosts()
export const isNowhere = why !== ''
/** A suffix for the name of a test that is skipped. */
export const notHere = isNowhere ? ` (not here: ${why})` : ''

/** The timeout of these tests: keepalive pings detect a vanished peer, then clients try to reconnect for a while. */
export const VANISHED_MS = 300_000

/** Starts a server on the host. */
export const serveOn = (host: Host, ...args: string[]): Promise<ServerProcess> =>
  ServerProcess.start([...args, '--listen', `${host.address}:0`, '--insecure'], undefined, host.prefix)

/** The number of open file descriptors of a process. */
export const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length
