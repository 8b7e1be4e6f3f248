import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { Pool, UnavailableError } from 'farpool'
import { describe, expect, it } from 'vitest'
import { errorOf } from '../support/calls.js'
import { ServerProcess } from '../support/server.js'

/** A port on which nobody listens. */
async function freePort(): Promise<number> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

describe('a server that starts after the first call has failed', () => {
  it.each([{}, { transport: 'unary' as const }, { processes: 1 }])(
    'is found by the next call (%j)',
    async (options) => {
      const port = await freePort()
      await using pool = new Pool(`127.0.0.1:${port}`, options)
      const failed = await errorOf(pool.apply('add', [1, 2]))
      expect(failed).toMatchObject({ name: 'UnavailableError', reason: 'CONNECTION_FAILED', started: false })
      expect(failed.message).toBe(`no connection was made: connect ECONNREFUSED 127.0.0.1:${port}`)
      // Long enough for pauses between attempts to have grown as far as they do.
      for (let end = Date.now() + 3_000; Date.now() < end; ) {
        expect(await errorOf(pool.apply('add', [1, 2]))).toBeInstanceOf(UnavailableError)
      }
      await using _server = await ServerProcess.start(['--processes', '1', '--listen', `127.0.0.1:${port}`])
      expect(await pool.apply('add', [1, 2])).toBe(3)
    },
  )
})
