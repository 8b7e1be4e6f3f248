import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { Failure } from './failure.js'

/** Certificates and private keys in PEM form, checked in the same way by servers and by clients. */
export interface Pem {
  /** How messages name it: an option, with the path of its file. */
  readonly name: string
  readonly text: string
}

const LABEL = '(?:X509 |TRUSTED )?CERTIFICATE'
const BEGIN = new RegExp(`-----BEGIN ${LABEL}-----`, 'g')
const CERTIFICATE = new RegExp(`-----BEGIN (${LABEL})-----[^-]*-----END \\1-----`, 'g')

/** All certificates, in their order. @throws Failure BAD_REQUEST if there is none, or one that cannot be read. */
export function certificatesIn({ name, text }: Pem): [X509Certificate, ...X509Certificate[]] {
  const found = text.match(CERTIFICATE) ?? []
  const begun = text.match(BEGIN)?.length ?? 0
  if (begun === 0) {
    const hint = /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text) ? '; it has a private key' : ''
    fault(`${name} has no certificate in PEM form, which begins with "-----BEGIN CERTIFICATE-----"${hint}`)
  }
  if (found.length < begun) fault(`${name} has a certificate whose end is missing`)
  const [first, ...rest] = found.map((one, at) => {
    try {
      return new X509Certificate(one)
    } catch {
      return fault(`${name}: certificate ${at + 1} of ${found.length} cannot be read`)
    }
  })
  return [first as X509Certificate, ...rest]
}

/** Checks that the key belongs to the first certificate, and returns that. @throws Failure BAD_REQUEST. */
export function checkPair(cert: Pem, key: Pem): X509Certificate {
  const [own] = certificatesIn(cert)
  if (!own.checkPrivateKey(privateKeyIn(key))) {
    fault(`${key.name} is not the private key of the certificate in ${cert.name}`)
  }
  return own
}

function privateKeyIn({ name, text }: Pem): KeyObject {
  try {
    return createPrivateKey(text)
  } catch (error) {
    const isLocked = (error as NodeJS.ErrnoException).code === 'ERR_MISSING_PASSPHRASE'
    return fault(
      isLocked
        ? `${name} has a passphrase, which nobody can type here; store the key without one`
        : `${name} has no private key in PEM form, or not all of it`,
    )
  }
}

/** Why a certificate is not valid at this time, in Unix milliseconds; undefined if it is. */
export function validityFault({ validFrom, validTo }: X509Certificate, now = Date.now()): string | undefined {
  const [from, to] = [new Date(validFrom), new Date(validTo)]
  if (now > to.getTime()) return `expired at ${to.toISOString()}`
  return now < from.getTime() ? `is not valid before ${from.toISOString()}` : undefined
}

function fault(message: string): never {
  throw new Failure('BAD_REQUEST', message)
}
