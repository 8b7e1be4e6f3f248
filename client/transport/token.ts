import type { CallCredentials } from '@grpc/grpc-js'
import { Code } from '../../wire/reason.js'
import { reasonOf } from '../../wire/values/value-errors.js'
import { isToken, TOKEN_FORM, type Token } from '../options.js'
import { grpcJs } from './grpc-js.js'

/** Send the token with each RPC, once there is a connection. A function is asked each time, so that it may give another token. */
export function tokenCredentials(token: Token): CallCredentials {
  const { credentials, Metadata } = grpcJs()
  const metadataOf = (current: string) => {
    const metadata = new Metadata()
    metadata.set('authorization', `Bearer ${current}`)
    return metadata
  }
  if (typeof token === 'string') {
    // grpc-js copies it for each RPC.
    const metadata = metadataOf(token)
    return credentials.createFromMetadataGenerator((_, done) => done(null, metadata))
  }
  return credentials.createFromMetadataGenerator((_, done) => {
    askFor(token).then(
      (current) => done(null, metadataOf(current)),
      (error: unknown) => done(Object.assign(new Error(reasonOf(error)), { code: Code.UNAUTHENTICATED })),
    )
  })
}

async function askFor(token: Exclude<Token, string>): Promise<string> {
  let current: unknown
  try {
    current = await token()
  } catch (error) {
    throw new Error(`the function token failed: ${reasonOf(error)}`)
  }
  // Without the value: an error is no place for a token.
  if (!isToken(current)) throw new Error(`what the function token returned is no token: it ${TOKEN_FORM}`)
  return current
}
