import type { ServiceError } from '@grpc/grpc-js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import { Failure, statusToFailure } from '../../wire/failure.js'
import { Code, type Reason } from '../../wire/reason.js'
import { silenceOfClient } from './connecting.js'

/**
 * Turns the errors of grpc-js into Failures. A farpool server sends its failure in the trailers; all other errors come
 * from grpc-js itself, or from a proxy.
 */

/** The reason for a status code that did not come from a farpool server. */
const REASON_OF_CODE: Readonly<Record<number, Reason>> = {
  [Code.CANCELLED]: 'CANCELLED',
  [Code.DEADLINE_EXCEEDED]: 'TASK_TIMEOUT',
  [Code.UNAVAILABLE]: 'CONNECTION_FAILED',
  // grpc-js uses this code only for a message that is too large; a farpool server names its limit in the trailers.
  [Code.RESOURCE_EXHAUSTED]: 'PAYLOAD_TOO_LARGE',
  [Code.UNAUTHENTICATED]: 'UNAUTHENTICATED',
  [Code.PERMISSION_DENIED]: 'PERMISSION_DENIED',
}

/** The failure behind an error of grpc-js; null stands for an RPC that ended OK but without a response. */
export function failureOf(error: ServiceError | null): Failure {
  if (!error) return new Failure('INTERNAL', 'the server sent neither a response nor an error')
  const status = statusIn(error)
  const known = status && statusToFailure(status)
  if (known)
    return known.reason === 'SESSION_LOST' ? new Failure('SESSION_LOST', known.message + silenceOfClient()) : known
  const reason = isBrokenConnection(error) ? 'CONNECTION_FAILED' : (REASON_OF_CODE[error.code] ?? 'INTERNAL')
  const message = plain(error.details || error.message)
  return new Failure(reason, reason === 'CONNECTION_FAILED' ? message + silenceOfClient() : message, {
    code: error.code,
  })
}

/** The text of grpc-js for a failed connect, without what only its authors need. */
const plain = (details: string): string =>
  details
    .replace(/^Getting metadata from plugin failed with error: /, '')
    .replace(
      /No connection established\. Last error: (?:Error: )?(.*?)(?: \(\d{4}-[\d-]+T[\d:.]+Z\))?\. Resolution note: .*$/s,
      (_, error: string) => `no connection was made: ${PLAIN[error] ?? error}`,
    )

const PLAIN: Readonly<Record<string, string>> = {
  undefined: 'the HTTP proxy that the environment names did not make one',
  'Protocol error': 'the server does not speak HTTP/2, or it wants TLS (set tls, --tls)',
}

/**
 * The texts of grpc-js for a stream that was reset, could not be opened, or could not be written to. Only the text tells
 * these from other errors: grpc-js gives them INTERNAL, its code for unreadable responses too, or RESOURCE_EXHAUSTED
 * when the peer sent ENHANCE_YOUR_CALM. The connection may still exist.
 */
const BROKEN = /^(Received RST_STREAM|Failed to start HTTP\/2 stream|Write error|Bandwidth exhausted)/
const isBrokenConnection = ({ code, details }: ServiceError): boolean =>
  (code === Code.INTERNAL || code === Code.RESOURCE_EXHAUSTED) && BROKEN.test(details)

/** The status that a farpool server sent in the trailers; undefined if there is none, or it cannot be read. */
function statusIn({ metadata }: ServiceError): Status | undefined {
  const [details] = metadata?.get('grpc-status-details-bin') ?? []
  if (!Buffer.isBuffer(details)) return undefined
  try {
    return Status.decode(details)
  } catch {
    return undefined
  }
}
