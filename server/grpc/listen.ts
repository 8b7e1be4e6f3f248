import { rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { type Server, ServerCredentials } from '@grpc/grpc-js'
import { socketPath } from '../../wire/address.js'
import { Failure } from '../../wire/failure.js'

/**
 * Binds the server to `host:port` or `unix:/path`. Resolves with the address for clients, where the real port stands in
 * place of port 0.
 *
 * @throws Failure (BAD_REQUEST) if the address is in use or cannot be bound.
 */
export async function listen(
  server: Server,
  address: string,
  credentials: ServerCredentials = ServerCredentials.createInsecure(),
): Promise<string> {
  const path = socketPath(address)
  if (path) await removeStaleSocket(path)
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, credentials, (error, bound) => (error ? reject(error) : resolve(bound)))
  }).catch((error: Error) => {
    const why = /EADDRINUSE/.test(error.message)
      ? 'it is in use; choose another, or port 0 for a free one'
      : error.message
    throw new Failure('BAD_REQUEST', `cannot listen on ${address}: ${why}`)
  })
  return path ? address : address.replace(/:\d+$/, `:${port}`)
}

/** Removes the file of a Unix socket. Does nothing for a TCP address. */
export async function unlisten(address: string): Promise<void> {
  const path = socketPath(address)
  if (path) await rm(path, { force: true })
}

/** Removes the socket file that a killed server left behind. Throws if a server answers there, or if it is not a socket. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined)
  if (!found) return
  if (!found.isSocket()) throw new Failure('BAD_REQUEST', `cannot listen on unix:${path}: it is a file, not a socket`)
  const answer = await new Promise<string>((resolve) => {
    const socket = connect(path, () => {
      socket.destroy()
      resolve('another server listens there')
    })
    // Only these two codes prove that no server listens. A busy server can fail with EAGAIN.
    socket.on('error', (error: NodeJS.ErrnoException) => {
      const isDead = error.code === 'ECONNREFUSED' || error.code === 'ENOENT'
      resolve(isDead ? '' : `another server may listen there (${error.code}); if none does, remove the file`)
    })
  })
  if (answer !== '') throw new Failure('BAD_REQUEST', `cannot listen on unix:${path}: ${answer}`)
  await rm(path, { force: true })
}
