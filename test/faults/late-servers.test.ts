import { promises as dns } from 'node:dns'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { Pool, UnavailableError } from 'farpool'
import { describe, expect, it, vi } from 'vitest'
import { errorOf } from '../support/calls.js'
import { ServerProcess, until } from '../support/server.js'

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

describe('a server that comes back at another address of its name', () => {
  it('is found by a call that waits for it, with at most one lookup a second', async () => {
    const port = await freePort()
    let address = '127.0.0.1'
    const lookup = vi.spyOn(dns, 'lookup').mockImplementation((async () => [{ address, family: 4 }]) as never)
    const text = vi.spyOn(dns, 'resolveTxt')
    const serve = (host: string) => ServerProcess.start(['--processes', '1', '--listen', `${host}:${port}`])
    const first = await serve(address)
    await using pool = new Pool(`farpool.localhost:${port}`)
    expect(await pool.apply('add', [1, 2])).toBe(3)
    await first[Symbol.asyncDispose]()
    const began = performance.now()
    const lookups = lookup.mock.calls.length
    const waiting = pool.apply('add', [2, 2])
    await until(() => lookup.mock.calls.length > lookups, 'the call has been told the old address again')
    await using _second = await serve('127.0.0.2')
    address = '127.0.0.2'
    expect(await waiting).toBe(4)
    expect(lookup.mock.calls.length - lookups).toBeLessThanOrEqual(2 + (performance.now() - began) / 1_000)
    expect(text).not.toHaveBeenCalled()
    vi.restoreAllMocks()
  })
})
