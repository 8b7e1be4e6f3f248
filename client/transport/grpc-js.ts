import load from './load-grpc-js.cjs'

/** grpc-js, loaded with the first pool on a server: a program that has only local pools does not load it. */
export const grpcJs = (): typeof import('@grpc/grpc-js') => {
  loaded ??= load()
  return loaded
}

let loaded: typeof import('@grpc/grpc-js') | undefined
