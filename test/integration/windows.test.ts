import { once } from 'node:events'
import { type ClientHttp2Session, connect } from 'node:http2'
import type { Server } from '@grpc/grpc-js'
import { Pool } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { configureHttp2 } from '../../server/grpc/http2-server.js'
import { WINDOW_BYTES } from '../../wire/protocol.js'
import { FUNCTIONS, ServerProcess } from '../support/server.js'

/** How much each end may send ahead of what the other has read, as plain HTTP/2 on the other side of a socket sees it. */

/** Resolves when the other end has answered: what it sent of itself has arrived before. */
const ping = (session: ClientHttp2Session) =>
  new Promise<void>((resolve, reject) => {
    session.ping((error) => (error ? reject(error) : resolve()))
  })

describe('a server', () => {
  let server: ServerProcess
  beforeAll(async () => {
    server = await ServerProcess.start(['--processes', '1'])
  })
  afterAll(() => server[Symbol.asyncDispose]())

  it('lets its peer send ahead, on a stream and on the connection', async () => {
    const session = connect(`http://${server.address}`)
    const [settings] = await once(session, 'remoteSettings')
    await ping(session)
    expect([settings.initialWindowSize, session.state.remoteWindowSize]).toEqual([WINDOW_BYTES, WINDOW_BYTES])
    session.destroy()
  })

  it('has nothing to warn of', () => {
    expect(server.log.filter(({ msg }) => /window/i.test(msg))).toEqual([])
  })
})

describe('a client', () => {
  // With wide windows at both ends this stands still at once: each end waits for the other to read.
  it('sends and receives far more than any buffer holds, at the same time', async () => {
    await using pool = await Pool.local(FUNCTIONS, { processes: 2 })
    const items = Array.from({ length: 500_000 }, (_, i) => i + 0.1)
    const maps = [1, 2, 3, 4].map(() => pool.map('identity', items))
    for (const results of await Promise.all(maps)) expect(results.length).toBe(items.length)
  })
})

const OPTIONS = { maxConnections: 10, maxStreams: 10, maxMetadataBytes: 1_000, windowBytes: WINDOW_BYTES }

describe('a grpc-js that is built otherwise', () => {
  const create = () => undefined
  it.each<[string, object]>([
    ['nothing', {}],
    ['no options', { createHttp2Server: create }],
    ['options that are null', { createHttp2Server: create, commonServerOptions: null }],
    ['no method', { commonServerOptions: { settings: { maxConcurrentStreams: 1 } } }],
    ['a method that is none', { commonServerOptions: {}, createHttp2Server: 'create' }],
  ])('with %s is left as it is', (_, built) => {
    const before = structuredClone({ ...built, createHttp2Server: undefined })
    const { createHttp2Server } = built as { createHttp2Server?: unknown }
    expect(configureHttp2(built as Server, OPTIONS, () => {})).toBeUndefined()
    expect({ ...built, createHttp2Server: undefined }).toEqual(before)
    expect((built as { createHttp2Server?: unknown }).createHttp2Server).toBe(createHttp2Server)
  })

  it('keeps the settings that it has', () => {
    const built = { commonServerOptions: { settings: { headerTableSize: 7 } }, createHttp2Server: create }
    expect(configureHttp2(built as unknown as Server, { ...OPTIONS, windowBytes: 100_000 }, () => {})).toBeDefined()
    expect(built.commonServerOptions.settings).toEqual({
      headerTableSize: 7,
      maxConcurrentStreams: 10,
      maxHeaderListSize: 1_000,
      initialWindowSize: 100_000,
    })
  })
})
