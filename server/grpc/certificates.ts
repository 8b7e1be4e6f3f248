import { readFile } from 'node:fs/promises'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import { ServerCredentials } from '@grpc/grpc-js'
import { asFailure, Failure } from '../../wire/failure.js'
import { certificatesIn, checkPair, type Pem, validityFault } from '../../wire/pem.js'
import { reasonOf } from '../../wire/values/value-errors.js'

/** How often the files are read, in milliseconds. Events of the file system do not come from every file system. */
const RELOAD_MS = 1_000

/** A connection that has not completed its TLS handshake after this time is closed. */
const TLS_HANDSHAKE_MS = 5_000

/** The paths of PEM files. Without the first two a server has no TLS. */
export interface CertificateFiles {
  readonly tlsCert: string | undefined
  readonly tlsKey: string | undefined
  /** With it, each client must have a certificate that one of these CAs has issued. */
  readonly tlsClientCa: string | undefined
}

export interface ReloadListener {
  /** New connections get another certificate, or are checked by other CAs. */
  replaced(certificate: { readonly subject: string; readonly validTo: string }): void
  /** The files cannot be used; what was read before stays. Called once for each change of them. */
  refused(why: string): void
}

interface Pems {
  readonly cert: Pem
  readonly key: Pem
  readonly clientCa: Pem | undefined
}

/** The certificate of a server. It can be replaced while the server runs: connections that are open go on. */
export class TlsCredentials extends ServerCredentials {
  /** The content of the files that are in use. */
  #used: string
  /** The content and the fault of the last look; empty if there was no fault. */
  #faulty = ''
  #refused = ''

  private constructor(
    private readonly read: () => Promise<Pems>,
    pems: Pems,
  ) {
    const requestCert = pems.clientCa !== undefined
    super({ requestCert, rejectUnauthorized: true, handshakeTimeout: TLS_HANDSHAKE_MS }, contextOf(pems))
    this.#used = contentOf(pems)
  }

  /**
   * @returns undefined if no files are given.
   * @throws Failure BAD_REQUEST that names the file and its fault.
   */
  static async from({ tlsCert, tlsKey, tlsClientCa }: CertificateFiles): Promise<TlsCredentials | undefined> {
    if (tlsCert === undefined || tlsKey === undefined) return undefined
    const read = async () => ({
      cert: await pemOf('tls-cert', tlsCert),
      key: await pemOf('tls-key', tlsKey),
      clientCa: tlsClientCa === undefined ? undefined : await pemOf('tls-client-ca', tlsClientCa),
    })
    return new TlsCredentials(read, await read())
  }

  /** Looks for changes of the files until the returned function is called. Does not keep the program alive. */
  watch(listener: ReloadListener): () => void {
    let timer: NodeJS.Timeout | undefined
    const isEnded = () => timer === undefined
    const next = () => {
      timer = setTimeout(async () => {
        await this.#look(listener)
        if (!isEnded()) next()
      }, RELOAD_MS).unref()
    }
    next()
    return () => {
      clearTimeout(timer)
      timer = undefined
    }
  }

  async #look(listener: ReloadListener): Promise<void> {
    let content = ''
    try {
      const pems = await this.read()
      content = contentOf(pems)
      if (content !== this.#used) {
        this.updateSecureContextOptions(contextOf(pems))
        this.#used = content
        const [{ subject, validTo }] = certificatesIn(pems.cert)
        listener.replaced({ subject, validTo })
      }
      this.#faulty = this.#refused = ''
    } catch (error) {
      const why = asFailure(error).message
      const faulty = why + content
      // A file that is being written is faulty for a moment.
      const isTwice = faulty === this.#faulty
      this.#faulty = faulty
      if (!isTwice || faulty === this.#refused) return
      this.#refused = faulty
      listener.refused(why)
    }
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other
  }
}

async function pemOf(option: string, path: string): Promise<Pem> {
  const name = `${option} (${path})`
  try {
    return { name, text: await readFile(path, 'utf8') }
  } catch (error) {
    throw new Failure('BAD_REQUEST', `${name} cannot be read: ${reasonOf(error)}`)
  }
}

const contentOf = ({ cert, key, clientCa }: Pems): string => JSON.stringify([cert.text, key.text, clientCa?.text])

/** @throws Failure BAD_REQUEST if clients could not use the certificate now. */
function contextOf({ cert, key, clientCa }: Pems): SecureContextOptions {
  const expired = validityFault(checkPair(cert, key))
  if (expired) throw new Failure('BAD_REQUEST', `the certificate in ${cert.name} ${expired}`)
  const faults = clientCa ? certificatesIn(clientCa).map((ca) => validityFault(ca)) : []
  // A list of CAs may hold some that are out of date.
  if (clientCa && faults.every((fault) => fault !== undefined)) {
    throw new Failure('BAD_REQUEST', `the certificate in ${clientCa.name} ${faults[0]}`)
  }
  const context: SecureContextOptions = {
    cert: cert.text,
    key: key.text,
    ...(clientCa && { ca: clientCa.text }),
    minVersion: 'TLSv1.2',
  }
  try {
    // grpc-js would close its port to everybody if it failed there.
    createSecureContext(context)
  } catch (error) {
    throw new Failure('BAD_REQUEST', `${cert.name} and ${key.name} cannot be used: ${reasonOf(error)}`)
  }
  return context
}
