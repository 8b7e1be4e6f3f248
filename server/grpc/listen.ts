import { rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { type Server, ServerCredentials } from '@grpc/grpc-js'
import { Failure } from '../../wire/failure.js'

/** Binds the server; resolves with the address that clients use. Throws where it is in use or not ours to bind. */
export async function listen(server: Server, address: string): Promise<string> {
  const path = socketPath(address)
  if (path) await removeStaleSocket(path)
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    )
  }).catch((error: Error) => {
    const why = /EADDRINUSE/.test(error.message)
      ? 'it is in use; choose another, or port 0 for a free one'
      : error.message
    throw new Failure('BAD_REQUEST', `cannot listen on ${address}: ${why}`)
  })
  return path ? address : address.replace(/:\d+$/, `:${port}`)
}

/** Removes the file of a Unix socket; nothing for a TCP address. */
export async function unlisten(address: string): Promise<void> {
  const path = socketPath(address)
  if (path) await rm(path, { force: true })
}

/** The file of a Unix socket; undefined for a TCP address. */
export const socketPath = (address: string): string | undefined =>
  address.startsWith('unix:') ? address.replace(/^unix:(\/\/)?/, '') : undefined

/** A server that was killed leaves its socket's file behind; one that lives answers. Only a socket is ever removed. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined)
  if (!found) return
  if (!found.isSocket()) throw new Failure('BAD_REQUEST', `cannot listen on unix:${path}: it is a file, not a socket`)
  const answer = await new Promise<string>((resolve) => {
    const socket = connect(path, () => {
      socket.destroy()
      resolve('another server listens there')
    })
    // Only these say that nobody listens. One that has too much to do to answer (EAGAIN) lives.
    socket.on('error', (error: NodeJS.ErrnoException) => {
      const isDead = error.code === 'ECONNREFUSED' || error.code === 'ENOENT'
      resolve(isDead ? '' : `another server may listen there (${error.code}); if none does, remove the file`)
    })
  })
  if (answer !== '') throw new Failure('BAD_REQUEST', `cannot listen on unix:${path}: ${answer}`)
  await rm(path, { force: true })
}
