import { Failure } from './failure.js'
import { truncateUtf8 } from './truncate.js'

/**
 * The addresses on which a server listens and to which clients connect. They are checked at both ends in the same way,
 * because grpc-js takes almost any text for a host name, and an address without a port for one with port 443.
 */

/** The longest path of a Unix socket, in bytes: the kernel's field less its last byte. A longer one would be cut off. */
const MAX_PATH_BYTES = process.platform === 'linux' ? 107 : 103

const HOST = /^[^\s:/@?#[\]%,"'\\]+$/
const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/

/** With or without a zone, as in fe80::1%eth0. */
const isIPv6 = (text: string): boolean =>
  /^[\da-fA-F:.]+(?:%[\w.-]+)?$/.test(text) && URL.canParse(`http://[${text.replace(/%.*/, '')}]`)

/** What an address is for. Port 0 stands for a free port, so only a server can have it. */
export type AddressUse = 'listen' | 'address'

/** @throws Failure BAD_REQUEST that says what is wrong with the address, and what would be right. */
export function checkAddress(use: AddressUse, address: unknown): asserts address is string {
  const fault = addressFault(use, address)
  if (fault === undefined) return
  const shown = typeof address === 'string' ? JSON.stringify(truncateUtf8(address, 200)) : String(address)
  throw new Failure('BAD_REQUEST', `${use} is ${shown}; it ${fault}`)
}

/** What the address must be, as the end of a sentence; undefined if it is right. */
export function addressFault(use: AddressUse, address: unknown): string | undefined {
  const fault = typeof address === 'string' ? faultOf(address, use) : ''
  return fault === undefined ? undefined : `must be host:port, [ipv6]:port or unix:/path${fault && ` (${fault})`}`
}

/** Undefined if the address is right; empty if there is nothing to say about it but what would be right. */
function faultOf(address: string, use: AddressUse): string | undefined {
  const [, scheme = '', rest = ''] = /^([A-Za-z][\w+.-]*):(.*)$/s.exec(address) ?? []
  if (scheme === 'unix') return pathFault(rest)
  if (/^\.{0,2}\//.test(address)) return `the path of a socket stands behind unix:, as in unix:${address}`
  if (use === 'address') {
    if (scheme === 'dns') return hostPortFault(rest.replace(/^\/\/[^/]*\//, ''), 1)
    if (scheme === 'ipv4' || scheme === 'ipv6') return listFault(scheme, rest)
  }
  if (rest.startsWith('//')) return urlFault(scheme, rest)
  return hostPortFault(address, use === 'listen' ? 0 : 1)
}

function urlFault(scheme: string, rest: string): string {
  const host = /^\/\/(?:[^/]*@)?([^/?#]*)/.exec(rest)?.[1] ?? ''
  if (host === '') return `there are no ${scheme}: addresses here`
  return `it is a URL: write ${/:\d+$/.test(host) ? host : `${host}:50051`}`
}

/** The addresses of several servers: `ipv4:10.0.0.1:50051,10.0.0.2:50051`. */
function listFault(scheme: 'ipv4' | 'ipv6', list: string): string | undefined {
  for (const one of list.split(',')) {
    const isOfScheme = scheme === 'ipv6' ? one.startsWith('[') : IPV4.test(one.replace(/:[^:]*$/, ''))
    const fault = isOfScheme ? hostPortFault(one, 1) : ''
    if (fault === undefined) continue
    const form = scheme === 'ipv4' ? 'a.b.c.d:port' : '[ipv6]:port'
    return `after ${scheme}: stand addresses of the form ${form}, with commas between them`
  }
  return undefined
}

function hostPortFault(text: string, leastPort: 0 | 1): string | undefined {
  const bracketed = /^\[([^\]]*)\](.*)$/s.exec(text)
  if (!bracketed && text.split(':').length > 2) return bareIPv6Fault(text)
  const [, host = '', tail = ''] = bracketed ?? /^([^:]*)(.*)$/s.exec(text) ?? []
  if (host === '' || /^\d+$/.test(text)) return 'it has no host'
  if (bracketed && !isIPv6(host)) return `${host} is no IPv6 address`
  if (!bracketed && /^\d[\d.]*$/.test(host) && !IPV4.test(host)) return `${host} is no IPv4 address`
  if (!bracketed && !HOST.test(host)) return ''
  if (tail === '' || tail === ':') return `it has no port: ${text.replace(/:$/, '')}:50051`
  const port = /^:\d+$/.test(tail) ? Number(tail.slice(1)) : -1
  return port >= leastPort && port <= 65_535 ? undefined : `the port is a number from ${leastPort} to 65535`
}

function bareIPv6Fault(text: string): string {
  const [, host = '', port = ''] = /^(.*):(\d+)$/s.exec(text) ?? []
  if (isIPv6(text)) return `an IPv6 address stands in brackets: [${text}]:50051`
  return isIPv6(host) ? `an IPv6 address stands in brackets: [${host}]:${port}` : ''
}

function pathFault(path: string): string | undefined {
  if (/^\/\/(?!\/)/.test(path)) return `it has two slashes: write unix:${path.slice(1)}`
  if (path === '' || path.endsWith('/')) return 'it has no path of a socket'
  if (path.includes('\0')) return 'its path has a NUL character'
  const bytes = Buffer.byteLength(socketPath(`unix:${path}`) ?? '')
  return bytes <= MAX_PATH_BYTES ? undefined : `its path has ${bytes} bytes, and may have ${MAX_PATH_BYTES}`
}

/** The path of a Unix socket's file; undefined for another address. Both `unix:/path` and `unix:///path` are in use. */
export const socketPath = (address: string): string | undefined =>
  address.startsWith('unix:') ? address.replace(/^unix:(?:\/\/(?=\/))?/, '') : undefined

/** Whether only this machine can be at the address, which has been checked. */
export const isLoopback = (address: string): boolean =>
  (/^ipv[46]:/.test(address) ? address.slice(5).split(',') : [address]).every((one) => LOOPBACK.test(one))

const LOOPBACK =
  /^(?:unix:|(?:dns:(?:\/\/[^/]*\/)?)?(?:(?:[^:]+\.)?localhost|127(?:\.\d+){3}|\[(?:::1|::ffff:127(?:\.\d+){3})\]):)/i

/** The host of a checked address of a server, without brackets; undefined where it is a list of addresses. */
export function hostOf(address: string): string | undefined {
  if (socketPath(address) !== undefined) return 'localhost'
  if (/^ipv[46]:/.test(address)) return undefined
  return address
    .replace(/^dns:(?:\/\/[^/]*\/)?/, '')
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
}

/** Whether a proxy of the environment may be on the way: it cannot reach this machine, and takes no list of addresses. */
export const mayUseProxy = (address: string): boolean =>
  !isLoopback(address) && !/^(?:ipv[46]|0\.0\.0\.0|\[::\]):/.test(address)

/** Where this machine reaches a server that listens at the address: a wildcard means all addresses of the machine. */
export const reachedAt = (listen: string): string => listen.replace(/^(?:0\.0\.0\.0|\[::\]):/, '127.0.0.1:')
