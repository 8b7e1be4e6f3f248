import { createRequire } from 'node:module'
import type { Server } from '@grpc/grpc-js'
import type { HealthImplementation } from 'grpc-health-check'
import { addLazyService } from '../grpc/lazy-service.js'

/** The empty name stands for the whole server. */
const SERVICES = ['', 'farpool.v1.PoolService']

const METHODS = [
  { path: '/grpc.health.v1.Health/Check', requestStream: false, responseStream: false },
  { path: '/grpc.health.v1.Health/List', requestStream: false, responseStream: false },
  { path: '/grpc.health.v1.Health/Watch', requestStream: false, responseStream: true },
]

/** The service grpc.health.v1.Health. The whole server and PoolService always have the same status. */
export class Health {
  #isServing = false
  /** Undefined until the first check. */
  #health: HealthImplementation | undefined

  addTo(server: Server): void {
    addLazyService(server, METHODS, (server) => {
      const library: typeof import('grpc-health-check') = createRequire(import.meta.url)('grpc-health-check')
      this.#health = new library.HealthImplementation(
        Object.fromEntries(SERVICES.map((service) => [service, this.#status])),
      )
      this.#health.addToServer(server)
    })
  }

  /** Clients that watch get a message only when the status changes. */
  set(isServing: boolean): void {
    if (isServing === this.#isServing) return
    this.#isServing = isServing
    for (const service of SERVICES) this.#health?.setStatus(service, this.#status)
  }

  get #status() {
    return this.#isServing ? 'SERVING' : 'NOT_SERVING'
  }
}
