import { once } from 'node:events'
import { type ClientHttp2Session, connect } from 'node:http2'
import type { Server } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { configureHttp2 } from '../../server/grpc/http2-server.js'
import { WINDOW_BYTES } from '../../wire/protocol.js'
import { sharedFarm } from '../support/farm.js'

/** The window is the number of bytes that a peer may send before the other end has read them. Observed with plain HTTP/2. */

/** Resolves when the server has answered a ping: its settings have arrived before. */
const ping = (session: ClientHttp2Session) =>
  new Promise<void>((resolve, reject) => {
    session.ping((error) => (error ? reject(error) : resolve()))
  })

describe('a server', () => {
  const farm = sharedFarm({ args: ['--processes', '1', '--max-held-bytes', String(2 ** 30)] })

  it('gives its peer a wide window, for a stream and for the connection', async () => {
    const session = connect(`http://${farm.address}`)
    const [settings] = await once(session, 'remoteSettings')
    await ping(session)
    expect([settings.initialWindowSize, session.state.remoteWindowSize]).toEqual([WINDOW_BYTES, WINDOW_BYTES])
    session.destroy()
  })

  it('logs no warning about windows', () => {
    expect(farm.server.log.filter(({ msg }) => /window/i.test(msg))).toEqual([])
  })
})

const OPTIONS = {
  maxConnections: 10,
  maxConnectionsPerAddress: 10,
  socketMode: '0600',
  maxStreams: 10,
  maxMetadataBytes: 1_000,
  windowBytes: WINDOW_BYTES,
  pingTimeoutMs: 1_000,
}
const LISTENER = { admit: () => undefined, crowded: () => {}, silent: () => {}, handshakeFailed: () => {} }

describe('a grpc-js with other internals', () => {
  const create = () => undefined
  it.each<[string, object]>([
    ['nothing', {}],
    ['no options', { createHttp2Server: create }],
    ['options that are null', { createHttp2Server: create, commonServerOptions: null }],
    ['no method', { commonServerOptions: { settings: { maxConcurrentStreams: 1 } } }],
    ['a method that is not a function', { commonServerOptions: {}, createHttp2Server: 'create' }],
  ])('with %s is not changed', (_, built) => {
    const before = structuredClone({ ...built, createHttp2Server: undefined })
    const { createHttp2Server } = built as { createHttp2Server?: unknown }
    expect(configureHttp2(built as Server, OPTIONS, LISTENER)).toBeUndefined()
    expect({ ...built, createHttp2Server: undefined }).toEqual(before)
    expect((built as { createHttp2Server?: unknown }).createHttp2Server).toBe(createHttp2Server)
  })

  it('keeps its own settings', () => {
    const built = { commonServerOptions: { settings: { headerTableSize: 7 } }, createHttp2Server: create }
    expect(configureHttp2(built as unknown as Server, { ...OPTIONS, windowBytes: 100_000 }, LISTENER)).toBeDefined()
    expect(built.commonServerOptions.settings).toEqual({
      headerTableSize: 7,
      maxConcurrentStreams: 10,
      maxHeaderListSize: 65_535,
      initialWindowSize: 100_000,
    })
  })
})
