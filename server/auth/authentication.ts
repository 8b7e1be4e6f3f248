import { timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { asFailure, Failure } from '../../wire/failure.js'
import type { Account } from '../limits/memory-budget.js'
import { commonNameOf } from './common-name.js'
import { Caller, Credential, Principal } from './identity.js'
import { NOTHING } from './rules.js'
import { digestOf, type TokenEntry, TokenFile } from './token-file.js'

/** Health checks come from machines that have no token, and are answered on every connection. */
export const isHealthCheck = (headers: IncomingHttpHeaders): boolean =>
  headers[':path']?.startsWith('/grpc.health.v1.Health/') === true

/** The log has at most one line in this time about each address whose calls are refused. */
const LOG_MS = 10_000

/** More addresses than this are not logged in that time. */
const LOGGED_ADDRESSES = 1_000

export interface AuthenticationListener {
  /** Calls of this address are refused. */
  refused(address: string, why: string): void
  /** A token or an entry has gone. Its calls have ended; now its sessions without a stream must end. */
  revoked(credential: Credential, reason: Failure): void
  changed(names: readonly string[]): void
  /** The file has changed and cannot be used. The old one stays in force. */
  broken(error: Failure): void
}

interface Connection {
  /** The right tokens that it has shown, so that not every call must be hashed. */
  readonly tokens: Map<string, Credential>
  readonly principals: Set<Principal>
  readonly callers: Map<Credential, Caller>
  /** That of its certificate. */
  readonly commonName: string | undefined
}

/** Finds out who calls, before the body of a call is read. */
export class Authentication {
  /** Callers without a name. A client may come back over another connection, so they are one principal. */
  readonly #anyone = new Credential(new Principal('anyone'), undefined, false)
  /** The entries of the file of tokens, by name. */
  readonly #principals = new Map<string, Principal>()
  #tokens: Credential[] = []
  /** By the common name of the certificate. */
  readonly #certificates = new Map<string, Credential>()
  readonly #connections = new WeakMap<ServerHttp2Session, Connection>()
  readonly #shown = new WeakMap<ServerHttp2Stream, Credential>()
  readonly #loggedAt = new Map<string, number>()
  #file: TokenFile | undefined

  /** @param tokens the file of --tokens. Without it, nobody needs a token. */
  constructor(
    private readonly tokens: string | undefined,
    private readonly listener: AuthenticationListener,
  ) {}

  /** Reads the file, and watches it until `close`. @throws Failure BAD_REQUEST if the file cannot be used. */
  async start(): Promise<void> {
    if (this.tokens === undefined) return
    this.#file = await TokenFile.open(this.tokens, {
      changed: (entries) => this.#use(entries),
      broken: (error) => this.listener.broken(asFailure(error)),
    })
  }

  /** The file says who may call. */
  private get isRequired(): boolean {
    return this.tokens !== undefined
  }

  /** Stops watching the file. */
  close(): void {
    this.#file?.close()
  }

  /** Looks at the headers of a call, and takes the token out of them. Returns the failure of a call that is refused. */
  admit(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Failure | undefined {
    const { authorization } = headers
    delete headers.authorization
    const session = stream.session as ServerHttp2Session | undefined
    if (!session || (this.isRequired && isHealthCheck(headers))) return undefined
    try {
      const credential = this.#credentialOf(session, authorization)
      credential.principal.addConnection(session)
      this.#connectionOf(session).principals.add(credential.principal)
      this.#shown.set(stream, credential)
      return undefined
    } catch (error) {
      const failure = asFailure(error)
      this.#log(session.socket?.remoteAddress ?? 'a Unix socket', failure)
      return failure
    }
  }

  /** Who makes a call that was admitted. @param account of its connection. */
  callerOf(stream: ServerHttp2Stream, account: Account): Caller {
    const credential = this.#shown.get(stream)
    const session = stream.session as ServerHttp2Session | undefined
    if (!credential || !session) return this.unknown(account)
    const { callers } = this.#connectionOf(session)
    const known = callers.get(credential)
    if (known) return known
    const { principal } = credential
    const caller = new Caller(account, credential, credential === this.#anyone ? account : principal)
    callers.set(credential, caller)
    return caller
  }

  /** The caller of a call that did not pass `admit`, because grpc-js is built differently: where tokens are needed, it may do nothing. */
  unknown(account: Account): Caller {
    const credential = this.isRequired ? new Credential(new Principal('unknown', NOTHING)) : this.#anyone
    return new Caller(account, credential, account)
  }

  #connectionOf(session: ServerHttp2Session): Connection {
    const known = this.#connections.get(session)
    if (known) return known
    const connection: Connection = {
      tokens: new Map(),
      principals: new Set(),
      callers: new Map(),
      commonName: commonNameOf(session),
    }
    this.#connections.set(session, connection)
    session.once('close', () => {
      for (const principal of connection.principals) principal.connections.delete(session)
    })
    return connection
  }

  /** @throws Failure UNAUTHENTICATED */
  #credentialOf(session: ServerHttp2Session, authorization: string | undefined): Credential {
    if (this.isRequired && authorization !== undefined) return this.#ofToken(session, authorization)
    const { commonName } = this.#connectionOf(session)
    if (commonName !== undefined) return this.#ofCertificate(commonName)
    if (!this.isRequired) return this.#anyone
    throw unauthenticated('the call has no token; it needs the metadata "authorization: Bearer TOKEN"')
  }

  #ofToken(session: ServerHttp2Session, authorization: string): Credential {
    const [, token] = /^bearer +([!-~]+) *$/i.exec(authorization) ?? []
    if (token === undefined) throw unauthenticated('the metadata "authorization" is not of the form "Bearer TOKEN"')
    const { tokens } = this.#connectionOf(session)
    const known = tokens.get(token)
    if (known && !known.revoked) return known
    tokens.delete(token)
    const digest = digestOf(token)
    // All are compared, so that the time says nothing.
    const [found] = this.#tokens.filter((one) => one.digest && timingSafeEqual(one.digest, digest))
    if (!found) throw unauthenticated('the token of the call is wrong, or was revoked')
    tokens.set(token, found)
    return found
  }

  #ofCertificate(name: string): Credential {
    const known = this.#certificates.get(name)
    if (known) return known
    if (this.isRequired) {
      const message = `the client certificate is of ${JSON.stringify(name)}, for which the server's file of tokens has no entry`
      throw unauthenticated(message)
    }
    const credential = new Credential(new Principal(name))
    this.#certificates.set(name, credential)
    return credential
  }

  /** Puts the entries of the file into force. What is not in it any more is revoked. */
  #use(entries: readonly TokenEntry[]): void {
    const tokens: Credential[] = []
    const certificates = new Map<string, Credential>()
    for (const { name, digests, rules } of entries) {
      const principal = this.#principals.get(name) ?? new Principal(name)
      this.#principals.set(name, principal)
      principal.rules = rules
      principal.resume()
      const isOf = (credential: Credential) => credential.principal === principal
      for (const hex of digests) {
        const known = this.#tokens.find((one) => isOf(one) && one.digest?.toString('hex') === hex)
        tokens.push(known ?? new Credential(principal, Buffer.from(hex, 'hex')))
      }
      if (digests.length === 0) certificates.set(name, this.#certificates.get(name) ?? new Credential(principal))
    }
    const kept = new Set([...tokens, ...certificates.values()])
    const gone = [...this.#tokens, ...this.#certificates.values()].filter((credential) => !kept.has(credential))
    this.#tokens = tokens
    this.#certificates.clear()
    for (const [name, credential] of certificates) this.#certificates.set(name, credential)
    for (const name of this.#principals.keys()) {
      if (!entries.some((entry) => entry.name === name)) this.#principals.delete(name)
    }
    for (const credential of gone) {
      const { name } = credential.principal
      const what = credential.digest ? 'the token' : 'the certificate'
      const reason = unauthenticated(`${what} of ${JSON.stringify(name)} was revoked`).of('unknown')
      credential.revoke(reason)
      this.listener.revoked(credential, reason)
    }
    this.listener.changed(entries.map(({ name }) => name))
  }

  #log(address: string, { message }: Failure): void {
    const now = performance.now()
    if (now - (this.#loggedAt.get(address) ?? Number.NEGATIVE_INFINITY) < LOG_MS) return
    for (const [other, at] of this.#loggedAt) if (now - at >= LOG_MS) this.#loggedAt.delete(other)
    if (this.#loggedAt.size >= LOGGED_ADDRESSES) return
    this.#loggedAt.set(address, now)
    this.listener.refused(address, message)
  }
}

const unauthenticated = (message: string): Failure => new Failure('UNAUTHENTICATED', message)
