import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect as connectHttp2, createSecureServer, type Http2SecureServer } from 'node:http2'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { BadRequestError, Pool, type PoolOptions, type TlsOptions, UnavailableError } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TlsCredentials } from '../../server/grpc/certificates.js'
import { WINDOW_BYTES } from '../../wire/protocol.js'
import { errorOf, waiting } from '../support/calls.js'
import { type Pair, TestCa } from '../support/certificates.js'
import { CLI, FUNCTIONS, farpool, ServerProcess, temporaryFolder, until } from '../support/server.js'
import { writeTokens } from '../support/tokens.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())
const ca = new TestCa(folder.path('.'), 'ca')
const otherCa = new TestCa(folder.path('.'), 'other-ca')
const pair = ca.issue('server')
const TRANSPORTS = ['stream', 'unary'] as const

const tlsArgs = ({ cert, key }: Pair, clientCa?: TestCa) => [
  ...['--processes', '1', '--tls-cert', cert, '--tls-key', key],
  ...(clientCa ? ['--tls-client-ca', clientCa.cert] : []),
]

/** The error of a call that cannot have a connection. */
async function refusal(address: string, options: PoolOptions): Promise<Error> {
  await using pool = new Pool(address, options)
  const error = await errorOf(pool.apply('add', [1, 2]))
  expect(error).toBeInstanceOf(UnavailableError)
  expect(error).toMatchObject({ reason: 'CONNECTION_FAILED', started: false })
  return error
}

/** A connection that has completed its TLS handshake. Rejects if the handshake fails. */
async function handshake(address: string, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const port = Number(address.split(':').at(-1))
  const socket = connect({ port, host: '127.0.0.1', ca: readFileSync(ca.cert), ALPNProtocols: ['h2'], ...options })
  await once(socket, 'secureConnect')
  // A server with TLS 1.3 refuses a client only after this.
  socket.on('error', () => {})
  return socket
}

/** The common name of the certificate that new connections get. */
async function servedName(address: string): Promise<string | string[] | undefined> {
  const socket = await handshake(address, { rejectUnauthorized: false })
  const { subject } = socket.getPeerCertificate()
  socket.destroy()
  return subject.CN
}

describe('a server with TLS', () => {
  let server: ServerProcess
  let plain: ServerProcess
  beforeAll(async () => {
    server = await ServerProcess.start(tlsArgs(pair))
    plain = await ServerProcess.start(['--processes', '1'])
  })
  afterAll(async () => {
    await server[Symbol.asyncDispose]()
    await plain[Symbol.asyncDispose]()
  })

  it.each(TRANSPORTS)('takes calls, maps and owned pools (%s)', async (transport) => {
    await using pool = new Pool(server.address, { transport, tls: { ca: ca.cert } })
    expect(await pool.apply('add', [1, 2])).toBe(3)
    expect(await pool.map('square', [1, 2, 3])).toEqual([1, 4, 9])
    await using own = new Pool(server.address, { transport, tls: { ca: ca.cert }, processes: 1 })
    const bytes = new Uint8Array(3_000_000).fill(7)
    expect(Buffer.from((await own.apply('identity', [bytes])) as Uint8Array).equals(bytes)).toBe(true)
  })

  it.each<[string, () => TlsOptions]>([
    ['text', () => ({ ca: readFileSync(ca.cert, 'utf8') })],
    ['bytes', () => ({ ca: readFileSync(ca.cert) })],
    ['a path', () => ({ ca: ca.cert })],
    ['a URL', () => ({ ca: pathToFileURL(ca.cert) })],
    ['a path, and a name that the certificate has', () => ({ ca: ca.cert, serverName: 'localhost' })],
  ])('is known by a CA that is given as %s', async (_, tls) => {
    await using pool = new Pool(server.address, { tls: tls() })
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })

  it('speaks TLS 1.3 and 1.2 and HTTP/2, and nothing older', async () => {
    for (const version of ['TLSv1.3', 'TLSv1.2'] as const) {
      const socket = await handshake(server.address, { maxVersion: version })
      expect([socket.getProtocol(), socket.alpnProtocol]).toEqual([version, 'h2'])
      socket.destroy()
    }
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const
    await expect(handshake(server.address, old)).rejects.toThrow('alert protocol version')
    await server.logged(({ msg }) => msg.includes('it does not speak TLS 1.2 or newer'))
  })

  it('has the same HTTP/2 limits and windows as without', async () => {
    const session = connectHttp2(`https://${server.address}`, { ca: readFileSync(ca.cert), servername: 'localhost' })
    const [settings] = await once(session, 'remoteSettings')
    await new Promise((resolve) => session.ping(resolve))
    expect(settings).toMatchObject({
      initialWindowSize: WINDOW_BYTES,
      maxConcurrentStreams: 1_000,
      maxHeaderListSize: 65_535,
    })
    expect(session.state.remoteWindowSize).toBe(WINDOW_BYTES)
    session.destroy()
  })

  describe.each(TRANSPORTS)('tells a client why it has no connection (%s)', (transport) => {
    it.each<[string, () => boolean | TlsOptions, string]>([
      ['knows another CA', () => ({ ca: otherCa.cert }), 'comes from a CA that this client does not trust; set tls.ca'],
      ['knows the CAs of Node', () => true, 'comes from a CA that this client does not trust; set tls.ca'],
      [
        'wants another host',
        () => ({ ca: ca.cert, serverName: 'other.example' }),
        'is not for other.example but for DNS:localhost, IP Address:127.0.0.1; connect by a name that it has',
      ],
      ['does not speak TLS', () => false, 'the server closed the connection at once; it may want TLS (set tls, --tls)'],
    ])('that %s', async (_, tls, message) => {
      expect((await refusal(server.address, { transport, tls: tls() })).message).toContain(message)
    })

    it('that wants TLS of a server without', async () => {
      const { message } = await refusal(plain.address, { transport, tls: { ca: ca.cert } })
      expect(message).toContain('no connection was made: the server does not speak TLS; leave tls out')
      await using pool = new Pool(plain.address, { transport })
      expect(await pool.apply('add', [1, 2])).toBe(3)
    })
  })

  it('logs the reason and the peer of handshakes that fail, each reason now and then', async () => {
    const line = await server.logged(({ msg }) => msg.includes('it does not speak TLS') && !msg.includes('1.2'))
    expect(line).toMatchObject({ client: expect.stringMatching(/^127\.0\.0\.1:\d+$/) })
    await server.logged(({ msg }) => msg.includes('it may not trust the certificate of this server'))
    // OpenSSL sends an alert, as most clients do.
    const args = [
      's_client',
      '-connect',
      server.address,
      '-alpn',
      'h2',
      '-CAfile',
      otherCa.cert,
      '-verify_return_error',
    ]
    await promisify(execFile)('openssl', args).catch(() => {})
    await server.logged(({ msg }) => msg.endsWith('it does not trust the certificate of this server'))
    for (let i = 0; i < 10; i++) await refusal(server.address, {})
    expect(server.log.filter(({ msg }) => msg.endsWith('it does not speak TLS')).length).toBeLessThan(3)
  })

  it('is asked by every command of farpool', async () => {
    const where = ['--address', server.address, '--tls-ca', ca.cert]
    const [call, map, functions, info, health, refused] = await Promise.all([
      farpool(['call', 'add', '1', '2', ...where]),
      farpool(['map', 'square', ...where], '2\n3\n'),
      farpool(['functions', ...where]),
      farpool(['info', ...where]),
      farpool(['health', ...where]),
      farpool(['call', 'add', '--address', server.address, '--tls']),
    ])
    expect(call).toEqual({ code: 0, stdout: '3\n', stderr: '' })
    expect(map).toMatchObject({ code: 0, stdout: '4\n9\n' })
    expect(functions.stdout).toContain('square')
    expect(info.stdout).toContain('pool default: open')
    expect(health).toEqual({ code: 0, stdout: 'SERVING\n', stderr: '' })
    expect(refused).toMatchObject({ code: 3, stderr: expect.stringContaining('a CA that this client does not trust') })
  })

  it('answers farpool health in its own container, which has its variables and no others', async () => {
    const variables = { FARPOOL_TLS_CERT: pair.cert, FARPOOL_TLS_KEY: pair.key, FARPOOL_LISTEN: server.address }
    const file = folder.path('own.yaml')
    writeFileSync(file, `listen: ${server.address}\ntls-cert: ${pair.cert}\ntls-key: ${pair.key}\n`)
    // Variables of a client say nothing about the server of this container.
    const ofClient = { FARPOOL_ADDRESS: '127.0.0.1:1', FARPOOL_TLS_CA: otherCa.cert }
    for (const own of [variables, { FARPOOL_CONFIG: file }]) {
      const env = { ...process.env, ...ofClient, ...own }
      const { stdout } = await promisify(execFile)(process.execPath, [CLI, 'health', '--own'], { env })
      expect(stdout).toBe('SERVING\n')
    }
  })
})

describe('a server whose certificate has expired', () => {
  // Ours does not start with one.
  let server: Http2SecureServer
  beforeAll(async () => {
    const { cert, key } = ca.issue('expired', { fromDay: -9, toDay: -8 })
    server = createSecureServer({ cert: readFileSync(cert), key: readFileSync(key) }).listen(0, '127.0.0.1')
    server.on('tlsClientError', () => {})
    await once(server, 'listening')
  })
  afterAll(() => server.close())

  it.each(TRANSPORTS)('is refused by its clients (%s)', async (transport) => {
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
    const { message } = await refusal(address, { transport, tls: { ca: ca.cert } })
    expect(message).toContain("the server's certificate has expired; renew it, or correct the clock of this machine")
  })
})

describe('a server of another kind', () => {
  // The numbers of RFC 8446. The codes of Node for them depend on the version of OpenSSL.
  it.each<[number, string]>([
    [40, 'it may want a client certificate: set tls.cert and tls.key'],
    [42, 'the server does not accept the client certificate'],
    [45, 'the server does not accept the client certificate: it has expired'],
    [48, 'the server does not accept the client certificate: it is not from a CA that the server trusts'],
    [70, 'the server does not speak TLS 1.2 or newer'],
    [80, 'TLS failed: '],
    [120, 'the server does not speak HTTP/2 (ALPN h2)'],
  ])('that answers with the alert %i is understood', async (alert, message) => {
    const answer = Buffer.from([0x15, 3, 3, 0, 2, 2, alert])
    const { message: said } = await refusalBy((socket) => socket.once('data', () => socket.end(answer)))
    expect(said).toContain(message)
  })

  it('that closes the connection is named', async () => {
    expect((await refusalBy((socket) => socket.end())).message).toContain(
      'the server closed the connection during the TLS handshake',
    )
  })

  it('that speaks HTTP/1 is named', async () => {
    const answer = (socket: Socket) => socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    expect((await refusalBy(answer)).message).toContain('the server does not speak TLS')
    expect((await refusalBy(answer, false)).message).toContain('the server does not speak HTTP/2, or it wants TLS')
  })

  /** The error of a call to a server that treats its connections like this. */
  async function refusalBy(treat: (socket: Socket) => unknown, tls: boolean | TlsOptions = { ca: ca.cert }) {
    const server = createTcpServer((socket) => treat(socket.on('error', () => {}))).listen(0, '127.0.0.1')
    await once(server, 'listening')
    try {
      return await refusal(`127.0.0.1:${(server.address() as AddressInfo).port}`, { tls })
    } finally {
      server.close()
    }
  }
})

describe('a server that wants client certificates', () => {
  const client = ca.issue('web')
  const stranger = otherCa.issue('web')
  const expired = ca.issue('web', { fromDay: -9, toDay: -8 })
  let server: ServerProcess
  beforeAll(async () => {
    server = await ServerProcess.start(tlsArgs(pair, ca))
  })
  afterAll(() => server[Symbol.asyncDispose]())

  describe.each(TRANSPORTS)('(%s)', (transport) => {
    it('takes calls of a client that has one', async () => {
      await using pool = new Pool(server.address, { transport, tls: { ca: ca.cert, ...client } })
      expect(await pool.apply('add', [1, 2])).toBe(3)
    })

    it.each<[string, TlsOptions, string]>([
      ['none', {}, 'the server wants a client certificate: set tls.cert and tls.key (--tls-cert, --tls-key)'],
      ['one of another CA', stranger, 'it may not accept the client certificate'],
      ['an expired one', expired, 'the client certificate expired at '],
    ])('refuses a client that has %s', async (_, own, message) => {
      const error = await refusal(server.address, { transport, tls: { ca: ca.cert, ...own } })
      expect(error.message).toContain(message)
    })
  })

  it('refuses a client with TLS 1.2, too', async () => {
    await expect(handshake(server.address, { maxVersion: 'TLSv1.2' })).rejects.toThrow('handshake failure')
  })

  it('does not believe an expired certificate that its client sends all the same', async () => {
    const own = { cert: readFileSync(expired.cert), key: readFileSync(expired.key) }
    const socket = await handshake(server.address, own)
    await new Promise((resolve) => socket.resume().once('close', resolve))
    await server.logged(({ msg }) => msg.includes('its client certificate has expired'))
  })

  it('logs why clients were refused', async () => {
    await server.logged(({ msg }) => msg.includes('it has no client certificate'))
    await server.logged(({ msg }) => msg.includes('its client certificate is not from a CA in tls-client-ca'))
  })

  it('gives the rules of an entry of --tokens to the certificate of that name, and refuses others', async () => {
    const tokens = folder.path('names.yaml')
    writeTokens(tokens, [{ name: 'web', functions: ['add'] }])
    await using known = await ServerProcess.start([...tlsArgs(pair, ca), '--tokens', tokens])
    const tls = { ca: ca.cert, ...client }
    await using pool = new Pool(known.address, { tls })
    expect(await pool.apply('add', [1, 2])).toBe(3)
    await expect(pool.apply('echo', [1])).rejects.toMatchObject({ reason: 'PERMISSION_DENIED' })
    await using unknown = new Pool(known.address, { tls: { ca: ca.cert, ...ca.issue('other') } })
    await expect(unknown.apply('add', [1, 2])).rejects.toMatchObject({ reason: 'UNAUTHENTICATED' })
    writeTokens(tokens, [{ name: 'other' }])
    const { msg } = await known.logged(({ msg }) => msg.includes('was revoked'))
    expect(msg).toBe('the certificate of "web" was revoked')
  })

  it('is asked by farpool with the options or variables of the client certificate', async () => {
    const where = ['--address', server.address, '--tls-ca', ca.cert]
    const own = ['--tls-cert', client.cert, '--tls-key', client.key]
    expect(await farpool(['health', ...where, ...own])).toMatchObject({ code: 0 })
    const { code, stderr } = await farpool(['health', ...where])
    expect([code, stderr]).toEqual([3, expect.stringContaining('the server wants a client certificate')])
    const env = { ...process.env, FARPOOL_TLS_CLIENT_CERT: client.cert, FARPOOL_TLS_CLIENT_KEY: client.key }
    const { stdout } = await promisify(execFile)(process.execPath, [CLI, 'call', 'add', '1', '2', ...where], { env })
    expect(stdout).toBe('3\n')
  })
})

describe('certificates that a server cannot use', () => {
  const half = folder.path('half.pem')
  const halfKey = folder.path('half.key')
  const der = folder.path('text.pem')
  beforeAll(() => {
    const text = readFileSync(pair.cert, 'utf8')
    writeFileSync(half, text.slice(0, text.length / 2))
    writeFileSync(halfKey, readFileSync(pair.key, 'utf8').slice(0, 80))
    writeFileSync(der, 'this is no PEM')
  })
  const other = ca.issue('other')
  const expired = ca.issue('old', { fromDay: -9, toDay: -8 })
  const early = ca.issue('early', { fromDay: 8, toDay: 9 })

  it.each<[string, () => Partial<Record<'tlsCert' | 'tlsKey' | 'tlsClientCa', string>>, string]>([
    [
      'a certificate that is not there',
      () => ({ tlsCert: '/nowhere.pem' }),
      'tls-cert (/nowhere.pem) cannot be read: ENOENT',
    ],
    ['a key that is a folder', () => ({ tlsKey: folder.path('.') }), 'cannot be read: EISDIR'],
    ['no PEM', () => ({ tlsCert: der }), `tls-cert (${der}) has no certificate in PEM form`],
    [
      'a key in place of the certificate',
      () => ({ tlsCert: pair.key }),
      'has no certificate in PEM form, which begins',
    ],
    ['half a certificate', () => ({ tlsCert: half }), `tls-cert (${half}) has a certificate whose end is missing`],
    [
      'half a key',
      () => ({ tlsKey: halfKey }),
      `tls-key (${halfKey}) has no private key in PEM form, or not all of it`,
    ],
    [
      'the key of another certificate',
      () => ({ tlsKey: other.key }),
      `tls-key (${other.key}) is not the private key of the certificate in tls-cert (${pair.cert})`,
    ],
    ['an expired one', () => ({ tlsCert: expired.cert, tlsKey: expired.key }), `${expired.cert}) expired at 20`],
    ['one for later', () => ({ tlsCert: early.cert, tlsKey: early.key }), `${early.cert}) is not valid before 20`],
    ['a client CA without a certificate', () => ({ tlsClientCa: der }), `tls-client-ca (${der}) has no certificate`],
    ['an expired client CA', () => ({ tlsClientCa: expired.cert }), `tls-client-ca (${expired.cert}) expired at 20`],
  ])('%s', async (_, files, message) => {
    const all = { tlsCert: pair.cert, tlsKey: pair.key, tlsClientCa: undefined, ...files() }
    await expect(TlsCredentials.from(all)).rejects.toMatchObject({ reason: 'BAD_REQUEST' })
    await expect(TlsCredentials.from(all)).rejects.toThrow(message)
  })

  it('keep it from starting', async () => {
    const options = ['--listen', '127.0.0.1:0', '--log-format', 'pretty']
    const args = ['serve', FUNCTIONS, ...options, ...tlsArgs({ cert: pair.cert, key: other.key })]
    const { code, stderr } = await farpool(args)
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining('is not the private key of the certificate in tls-cert'),
    ])
    expect(await farpool(['check', ...args.slice(1)])).toMatchObject({ code, stderr })
  })
})

describe('the option tls of a client', () => {
  const other = ca.issue('other')

  it.each<[unknown, string]>([
    [1, 'tls is 1; it must be true, false or an object'],
    [[], 'tls is an array of 0; it must be'],
    [{ caa: 'x' }, 'new Pool has no option caa; did you mean ca?'],
    [{ ca: 5 }, 'ca is 5; it must be PEM'],
    [{ ca: '/nowhere.pem' }, 'tls.ca (/nowhere.pem) cannot be read: ENOENT'],
    [{ ca: 'no\nPEM' }, 'tls.ca is text, but not PEM'],
    [{ ca: pair.key }, `tls.ca (${pair.key}) has no certificate in PEM form`],
    [{ ca: new URL('https://example.org/ca.pem') }, 'tls.ca (https://example.org/ca.pem) cannot be read'],
    [{ serverName: '' }, 'serverName is ""; it must be the name of a host'],
    [{ cert: pair.cert }, 'of tls.cert and tls.key only one is given'],
    [{ key: pair.key }, 'of tls.cert and tls.key only one is given'],
    [
      { cert: pair.cert, key: other.key },
      `tls.key (${other.key}) is not the private key of the certificate in tls.cert`,
    ],
  ])('%j is refused at once', (tls, message) => {
    const make = () => new Pool('127.0.0.1:1', { tls: tls as TlsOptions })
    expect(make).toThrow(BadRequestError)
    expect(make).toThrow(message)
  })

  it('has its faults named by farpool, too', async () => {
    const { code, stderr } = await farpool(['call', 'add', '--tls-ca', '/nowhere.pem'])
    expect([code, stderr]).toEqual([2, expect.stringContaining('tls.ca (/nowhere.pem) cannot be read')])
  })

  it('has files that are read again for each connection', async () => {
    const file = folder.path('client-ca.pem')
    copyFileSync(ca.cert, file)
    const first = await ServerProcess.start(tlsArgs(pair))
    await using pool = new Pool(first.address, { tls: { ca: file } })
    expect(await pool.apply('add', [1, 2])).toBe(3)
    await first[Symbol.asyncDispose]()
    copyFileSync(otherCa.cert, file)
    await using _next = await ServerProcess.start([...tlsArgs(otherCa.issue('next')), '--listen', first.address])
    await until(async () => (await pool.apply('add', [1, 2]).catch(() => 0)) === 3, 'the next server is trusted')
  })
})

describe('the certificate of a running server', () => {
  let server: ServerProcess
  let live: Pair
  let fresh = 0
  const nextPair = () => ca.issue(`number-${++fresh}`)
  const liveClientCa = folder.path('live-client-ca.pem')

  beforeAll(async () => {
    live = { cert: folder.path('live.pem'), key: folder.path('live.key') }
    const first = nextPair()
    copyFileSync(first.cert, live.cert)
    copyFileSync(first.key, live.key)
    copyFileSync(ca.cert, liveClientCa)
    server = await ServerProcess.start([...tlsArgs(live), '--tls-client-ca', liveClientCa])
  })
  afterAll(() => server[Symbol.asyncDispose]())

  const client = ca.issue('client')
  const tls = () => ({ ca: ca.cert, ...client })
  const isServed = (name: string) =>
    until(async () => (await servedName(server.address)) === name, `new connections get ${name}`)
  const complaints = () => server.log.filter(({ msg }) => msg.includes('the changed TLS files cannot be used'))

  it.each<[string, (next: Pair) => void]>([
    [
      'is rewritten in place',
      ({ cert, key }) => {
        writeFileSync(live.key, readFileSync(key))
        writeFileSync(live.cert, readFileSync(cert))
      },
    ],
    [
      'is renamed to its place',
      ({ cert, key }) => {
        renameSync(cert, live.cert)
        renameSync(key, live.key)
      },
    ],
  ])('%s: calls go on, new connections get the new one', async (_, replace) => {
    await using pool = new Pool(server.address, { tls: tls() })
    let breaks = 0
    pool.events.addEventListener('disconnected', () => breaks++)
    const file = folder.fresh()
    const call = await waiting(pool, file)
    replace(nextPair())
    await isServed(`number-${fresh}`)
    writeFileSync(`${file}.go`, '')
    expect(await call.result).toBe('went on')
    expect(await pool.apply('add', [1, 2])).toBe(3)
    expect(breaks).toBe(0)
    await using later = new Pool(server.address, { tls: { ...tls(), serverName: 'localhost' } })
    expect(await later.apply('add', [1, 2])).toBe(3)
  })

  it.each<[string, () => void, string]>([
    [
      'is half-written',
      () => writeFileSync(live.cert, readFileSync(nextPair().cert, 'utf8').slice(0, 200)),
      'has a certificate whose end is missing',
    ],
    ['belongs to another key', () => copyFileSync(nextPair().cert, live.cert), 'is not the private key of'],
    [
      'has expired',
      () => {
        const { cert, key } = ca.issue('old', { fromDay: -9, toDay: -8 })
        copyFileSync(cert, live.cert)
        copyFileSync(key, live.key)
      },
      'expired at 20',
    ],
  ])('stays if the new one %s, and the log says so once', async (_, spoil, message) => {
    const before = await servedName(server.address)
    const count = complaints().length
    spoil()
    const line = await server.logged((line) => line.msg.includes('cannot be used') && line.msg.includes(message))
    expect(line.level).toBe(40)
    expect(await servedName(server.address)).toBe(before)
    const { cert, key } = nextPair()
    copyFileSync(cert, live.cert)
    copyFileSync(key, live.key)
    await isServed(`number-${fresh}`)
    expect(complaints().length).toBe(count + 1)
  })

  it('lets in the clients of another CA when that is changed, and those of the old one no more', async () => {
    const stranger = { ca: ca.cert, ...otherCa.issue('stranger') }
    const ownPem = { cert: readFileSync(client.cert), key: readFileSync(client.key) }
    const before = await handshake(server.address, ownPem)
    const [session] = await once(before, 'session')
    before.destroy()
    expect((await refusal(server.address, { tls: stranger })).message).toContain(
      'may not accept the client certificate',
    )
    copyFileSync(otherCa.cert, liveClientCa)
    const isIn = async () => {
      await using pool = new Pool(server.address, { tls: stranger })
      return (await pool.apply('add', [1, 2]).catch(() => 0)) === 3
    }
    await until(isIn, 'the stranger is in')
    const old = { ...tls(), serverName: 'localhost' }
    expect((await refusal(server.address, { tls: old })).message).toContain('may not accept the client certificate')
    const resumed = await handshake(server.address, { ...ownPem, session })
    expect(resumed.isSessionReused()).toBe(false)
    await new Promise((resolve) => resumed.resume().once('close', resolve))
  })

  it('is replaced by a swap of a symbolic link, as Kubernetes does it', async () => {
    const secret = folder.path('secret')
    const put = (version: string) => {
      const { cert, key } = nextPair()
      mkdirSync(`${secret}/${version}`, { recursive: true })
      copyFileSync(cert, `${secret}/${version}/tls.crt`)
      copyFileSync(key, `${secret}/${version}/tls.key`)
      symlinkSync(version, `${secret}/..data_tmp`)
      renameSync(`${secret}/..data_tmp`, `${secret}/..data`)
    }
    put('..1')
    const mounted = { cert: `${secret}/tls.crt`, key: `${secret}/tls.key` }
    symlinkSync('..data/tls.crt', mounted.cert)
    symlinkSync('..data/tls.key', mounted.key)
    await using other = await ServerProcess.start(tlsArgs(mounted))
    put('..2')
    await until(async () => (await servedName(other.address)) === `number-${fresh}`, 'the second one is served')
  })
})

describe('a server that other machines can reach', () => {
  it('does not start without TLS and a way to know its clients, and says what to do', async () => {
    const { code, stderr } = await farpool(['serve', FUNCTIONS, '--listen', '0.0.0.0:0', '--log-format', 'pretty'])
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining('--listen is "0.0.0.0:0", which other machines can reach'),
    ])
    const ways = ['--tls-cert and --tls-key with --tokens or --tls-client-ca', 'a loopback address', '--insecure']
    for (const way of ways) expect(stderr).toContain(way)
  })

  it.each<[string, () => string[], () => boolean | TlsOptions]>([
    ['client certificates', () => tlsArgs(pair, ca), () => ({ ca: ca.cert, ...ca.issue('web') })],
    ['--insecure', () => ['--processes', '1', '--insecure'], () => false],
  ])('starts with %s', async (_, args, tls) => {
    await using server = await ServerProcess.start([...args(), '--listen', '0.0.0.0:0'])
    await using pool = new Pool(server.address.replace('0.0.0.0', '127.0.0.1'), { tls: tls() })
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })
})
