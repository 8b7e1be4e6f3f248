import type { Server } from '@grpc/grpc-js'
import { HealthImplementation } from 'grpc-health-check'

export const SERVICE = 'farpool.v1.PoolService'

/** grpc.health.v1.Health for the whole server ("") and for the service. */
export class Health {
  #serving = false
  readonly #health = new HealthImplementation({ '': 'NOT_SERVING', [SERVICE]: 'NOT_SERVING' })

  addTo(server: Server): void {
    this.#health.addToServer(server)
  }

  /** Watchers are told of changes only. */
  set(serving: boolean): void {
    if (serving === this.#serving) return
    this.#serving = serving
    for (const service of ['', SERVICE]) this.#health.setStatus(service, serving ? 'SERVING' : 'NOT_SERVING')
  }
}
