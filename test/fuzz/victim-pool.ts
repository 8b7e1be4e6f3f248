import { OpenPoolRequest, OpenPoolResponse } from '../../proto/gen/farpool/v1/pool_service.js'
import { frame } from '../support/raw-call.js'
import { RawClient } from '../support/raw-unary.js'

/** Another is opened so long after the last has ended: each costs a process. */
const PAUSE_MS = 1_000

const REQUEST = frame(
  OpenPoolRequest.encode({
    processes: 1,
    initializer: '',
    initargs: [],
    maxtasksperchild: undefined,
  }).finish(),
)

/** A pool of a client's own, whose name the attackers know: they may close and terminate it, and then there is another. */
export class VictimPool implements Disposable {
  readonly #client: RawClient
  #name: Buffer | undefined
  #pause: NodeJS.Timeout | undefined
  #isOver = false

  constructor(address: string) {
    this.#client = new RawClient(address)
    this.#open()
  }

  /** The bytes, in which the pool is called by its own name instead of `stand`. */
  named(bytes: Buffer, stand: string): Buffer {
    const name = this.#name
    if (!name || name.length !== stand.length || !bytes.includes(stand)) return bytes
    const named = Buffer.from(bytes)
    for (let at = named.indexOf(stand); at >= 0; at = named.indexOf(stand, at)) name.copy(named, at)
    return named
  }

  [Symbol.dispose](): void {
    this.#isOver = true
    clearTimeout(this.#pause)
    this.#client[Symbol.dispose]()
  }

  #open(): void {
    const { stream, answer } = this.#client.open({ path: '/farpool.v1.PoolService/OpenPool' })
    stream.end(REQUEST)
    stream.once('data', (bytes: Buffer) => {
      const { event } = OpenPoolResponse.decode(bytes.subarray(5, 5 + bytes.readUInt32BE(1)))
      if (event?.$case === 'opened') this.#name = Buffer.from(event.value.pool)
    })
    const again = () => {
      if (this.#isOver || this.#client.session.destroyed) return
      this.#pause = setTimeout(() => this.#open(), PAUSE_MS)
    }
    answer.then(again, again)
  }
}
