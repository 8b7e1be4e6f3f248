import type { Server } from '@grpc/grpc-js'
import { HealthImplementation } from 'grpc-health-check'

/** The empty name stands for the whole server. */
const SERVICES = ['', 'farpool.v1.PoolService']

/** The service grpc.health.v1.Health. The whole server and PoolService always have the same status. */
export class Health {
  #isServing = false
  readonly #health = new HealthImplementation(Object.fromEntries(SERVICES.map((service) => [service, 'NOT_SERVING'])))

  addTo(server: Server): void {
    this.#health.addToServer(server)
  }

  /** Clients that watch get a message only when the status changes. */
  set(isServing: boolean): void {
    if (isServing === this.#isServing) return
    this.#isServing = isServing
    for (const service of SERVICES) this.#health.setStatus(service, isServing ? 'SERVING' : 'NOT_SERVING')
  }
}
