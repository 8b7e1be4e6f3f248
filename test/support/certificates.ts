import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The paths of a certificate and of its private key. */
export interface Pair {
  readonly cert: string
  readonly key: string
}

export interface CertificateOptions {
  /** The subject alternative name, as OpenSSL writes it. */
  readonly names?: string
  /** Days from now. Default: from yesterday until tomorrow. */
  readonly fromDay?: number
  readonly toDay?: number
}

const NAMES = 'DNS:localhost,IP:127.0.0.1'

const CONFIG = `[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
`

/** A certificate authority that issues real certificates, by openssl. */
export class TestCa {
  /** The path of its own certificate. */
  readonly cert: string
  readonly #folder: string
  #issued = 0

  constructor(folder: string, name: string) {
    this.#folder = join(folder, name)
    this.cert = join(this.#folder, 'ca.pem')
    mkdirSync(this.#folder, { recursive: true })
    writeFileSync(join(this.#folder, 'index.txt'), '')
    writeFileSync(join(this.#folder, 'ca.cnf'), CONFIG)
    this.#openssl('req', '-x509', ...newKey('ca.key'), '-out', 'ca.pem', '-days', '2', '-subj', `/CN=${name}`)
  }

  /** @param name the common name of the subject. */
  issue(name: string, { names = NAMES, fromDay = -1, toDay = 1 }: CertificateOptions = {}): Pair {
    const file = (extension: string) => join(this.#folder, `${this.#issued}.${extension}`)
    this.#issued++
    writeFileSync(file('ext'), `subjectAltName = ${names}\n`)
    this.#openssl('req', ...newKey(file('key')), '-out', file('csr'), '-subj', `/CN=${name}`)
    const dates = ['-startdate', dateOf(fromDay), '-enddate', dateOf(toDay)]
    const signing = ['-cert', 'ca.pem', '-keyfile', 'ca.key', '-extfile', file('ext'), '-in', file('csr')]
    this.#openssl('ca', '-batch', '-notext', '-config', 'ca.cnf', ...dates, ...signing, '-out', file('pem'))
    return { cert: file('pem'), key: file('key') }
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { cwd: this.#folder, stdio: 'pipe' })
  }
}

const newKey = (file: string) => [
  '-newkey',
  'ec',
  '-pkeyopt',
  'ec_paramgen_curve:prime256v1',
  '-nodes',
  '-keyout',
  file,
]

/** As OpenSSL writes it: YYYYMMDDHHMMSSZ. */
const dateOf = (day: number): string =>
  new Date(Date.now() + day * 86_400_000).toISOString().replace(/[-:T]|\.\d+/g, '')
