import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createSecureServer } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { afterAll, describe, expect, it } from 'vitest'
import { Authentication } from '../../server/auth/authentication.js'
import { MemoryBudget } from '../../server/limits/memory-budget.js'
import { temporaryFolder } from '../support/server.js'
import { entryOf, tokenOf, writeTokens } from '../support/tokens.js'

/** Who a caller with a client certificate is: over real TLS, without the rest of a server. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

const IGNORE = { refused: () => {}, revoked: () => {}, changed: () => {}, broken: () => {} }

/** A certificate that is its own CA. */
function certificate(subject: string) {
  const [cert, key] = [folder.fresh(), folder.fresh()]
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key]
  execFileSync('openssl', ['req', '-x509', ...newKey, '-out', cert, '-days', '2', '-subj', subject], { stdio: 'pipe' })
  return { cert: readFileSync(cert), key: readFileSync(key) }
}

/** The names of callers with this certificate and these headers, or the reason for which they are refused. */
async function nameOf(
  { tokens, trusts }: { tokens?: string; trusts: readonly { cert: Buffer }[] },
  client: { cert: Buffer; key: Buffer },
  headers: Record<string, string> = {},
): Promise<unknown> {
  const authentication = new Authentication(tokens, IGNORE)
  await authentication.start()
  const budget = new MemoryBudget(1e6, { pressure: () => {}, room: () => {}, cut: () => {} })
  const ca = trusts.map(({ cert }) => cert)
  const server = createSecureServer({
    ...certificate('/CN=localhost'),
    ca,
    requestCert: true,
    rejectUnauthorized: false,
  })
  server.on('stream', (stream, received) => {
    const failure = authentication.admit(stream, received)
    const name = () =>
      authentication.callerOf(
        stream,
        budget.open('client', () => {}),
      ).principal.name
    stream.respond({ name: failure?.reason ?? name() }, { endStream: true })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const address = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const session = connect(address, { ...client, rejectUnauthorized: false })
  try {
    const [answer] = await once(session.request({ ':path': '/farpool.v1.PoolService/Apply', ...headers }), 'response')
    return answer.name
  } finally {
    authentication.close()
    session.destroy()
    server.close()
  }
}

describe('a caller with a client certificate', () => {
  const [web, other] = [certificate('/CN=web/O=example'), certificate('/CN=other')]
  const trusts = [web, other]
  const tokens = folder.fresh()
  writeTokens(tokens, [{ name: 'web' }, entryOf('other'), entryOf('ann')])

  it('is named by it, without any tokens', async () => {
    expect(await nameOf({ trusts }, web)).toBe('web')
    expect(await nameOf({ trusts }, other)).toBe('other')
  })

  it('is nobody if the certificate is not verified, or names several', async () => {
    expect(await nameOf({ trusts: [other] }, web)).toBe('anyone')
    const both = certificate('/CN=web/CN=admin')
    expect(await nameOf({ trusts: [both] }, both)).toBe('anyone')
  })

  it('needs an entry of its name without a token, where there are tokens', async () => {
    expect(await nameOf({ trusts, tokens }, web)).toBe('web')
    // The entry of this name is for a token.
    expect(await nameOf({ trusts, tokens }, other)).toBe('UNAUTHENTICATED')
    expect(await nameOf({ trusts: [other], tokens }, web)).toBe('UNAUTHENTICATED')
  })

  it('is who its token says, and nobody with a wrong one', async () => {
    expect(await nameOf({ trusts, tokens }, web, { authorization: `Bearer ${tokenOf('ann')}` })).toBe('ann')
    expect(await nameOf({ trusts, tokens }, web, { authorization: 'Bearer fp_wrong' })).toBe('UNAUTHENTICATED')
  })
})
