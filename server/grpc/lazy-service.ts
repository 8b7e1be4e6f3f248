import type { MethodDefinition, Server, ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js'

/** A method of a service that a library implements. */
export interface LazyMethod {
  readonly path: string
  readonly requestStream: boolean
  readonly responseStream: boolean
}

// biome-ignore lint/suspicious/noExplicitAny: the messages of a library, which only the library knows
type Method = MethodDefinition<any, any>

interface Loaded {
  readonly method: Method
  // biome-ignore lint/suspicious/noExplicitAny: a handler of any kind of call
  readonly handler: (...args: any[]) => void
}

/**
 * Adds a service whose library is loaded with its first call: most servers never get one, and the library takes memory.
 * @param load gets a server of which it may call `addService` only.
 */
export function addLazyService(server: Server, methods: readonly LazyMethod[], load: (server: Server) => void): void {
  let loaded: ReadonlyMap<string, Loaded> | undefined
  const find = (path: string): Loaded => {
    loaded ??= methodsOf(load)
    const found = loaded.get(path)
    if (!found) throw new Error(`the library has no method ${path}`)
    return found
  }
  const definition: Record<string, Method> = {}
  const implementation: UntypedServiceImplementation = {}
  for (const { path, ...streams } of methods) {
    definition[path] = {
      path,
      ...streams,
      requestSerialize: (request) => find(path).method.requestSerialize(request),
      requestDeserialize: (bytes) => find(path).method.requestDeserialize(bytes),
      responseSerialize: (response) => find(path).method.responseSerialize(response),
      responseDeserialize: (bytes) => find(path).method.responseDeserialize(bytes),
    }
    implementation[path] = (...args: unknown[]) => find(path).handler(...args)
  }
  server.addService(definition, implementation)
}

/** What `load` adds to a server, by path. */
function methodsOf(load: (server: Server) => void): ReadonlyMap<string, Loaded> {
  const loaded = new Map<string, Loaded>()
  const addService = (definition: ServiceDefinition, implementation: UntypedServiceImplementation) => {
    for (const [name, method] of Object.entries(definition)) {
      const handler = implementation[name] ?? implementation[method.originalName ?? '']
      if (handler) loaded.set(method.path, { method, handler: handler.bind(implementation) })
    }
  }
  load({ addService } as unknown as Server)
  return loaded
}
