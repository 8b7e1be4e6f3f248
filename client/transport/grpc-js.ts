import { createRequire } from 'node:module'

/** grpc-js, loaded with the first pool on a server: a program that has only local pools does not load it. */
export const grpcJs = (): typeof import('@grpc/grpc-js') => {
  loaded ??= require('@grpc/grpc-js') as typeof import('@grpc/grpc-js')
  return loaded
}

const require = createRequire(import.meta.url)
let loaded: typeof import('@grpc/grpc-js') | undefined
