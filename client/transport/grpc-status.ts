import type { ServiceError } from '@grpc/grpc-js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import { Failure, statusToFailure } from '../../wire/failure.js'
import { Code, type Reason } from '../../wire/reason.js'

/** What grpc-js itself says, where no server of ours had the word. */
const TRANSPORT_REASONS: Readonly<Record<number, Reason>> = {
  [Code.CANCELLED]: 'CANCELLED',
  [Code.DEADLINE_EXCEEDED]: 'TASK_TIMEOUT',
  [Code.UNAVAILABLE]: 'CONNECTION_FAILED',
  // Our server says which limit; grpc-js's own says it only of a message that it did not let through.
  [Code.RESOURCE_EXHAUSTED]: 'PAYLOAD_TOO_LARGE',
  [Code.UNAUTHENTICATED]: 'UNAUTHENTICATED',
  [Code.PERMISSION_DENIED]: 'PERMISSION_DENIED',
}

/** The failure that a status of gRPC stands for. */
export function failureOf(error: ServiceError | null): Failure {
  if (!error) return new Failure('INTERNAL', 'the server sent neither a response nor an error')
  const status = statusOf(error)
  if (status) return statusToFailure(status)
  const reason = isBroken(error) ? 'CONNECTION_FAILED' : (TRANSPORT_REASONS[error.code] ?? 'INTERNAL')
  const message =
    reason === 'TASK_TIMEOUT' ? "the call's timeout passed before its result came" : error.details || error.message
  return new Failure(reason, message, { code: error.code })
}

/**
 * What grpc-js says where a stream was reset, could not be opened or not be written to, without a word of any server; the
 * connection may be there or not. It has INTERNAL for these, which is also its word for what cannot be read, and
 * RESOURCE_EXHAUSTED where the other end had enough (ENHANCE_YOUR_CALM).
 */
const BROKEN = /^(Received RST_STREAM|Failed to start HTTP\/2 stream|Write error|Bandwidth exhausted)/
const isBroken = ({ code, details }: ServiceError): boolean =>
  (code === Code.INTERNAL || code === Code.RESOURCE_EXHAUSTED) && BROKEN.test(details)

/** What the server says besides gRPC's own code; undefined where it says nothing that can be read. */
function statusOf({ metadata }: ServiceError): Status | undefined {
  const [details] = metadata?.get('grpc-status-details-bin') ?? []
  if (!Buffer.isBuffer(details)) return undefined
  try {
    return Status.decode(details)
  } catch {
    return undefined
  }
}
