import { OpenPoolRequest, OpenPoolResponse } from '../../proto/gen/farpool/v1/pool_service.js'
import { frame } from '../support/raw-call.js'
import { RawClient } from '../support/raw-unary.js'

/** The pause before a new pool is opened, because each pool starts a process. */
const PAUSE_MS = 1_000

const REQUEST = frame(
  OpenPoolRequest.encode({
    sharedPool: '',
    processes: 1,
    initializer: '',
    initargs: [],
    maxtasksperchild: undefined,
  }).finish(),
)

/** An owned pool whose name the cases know. They may close and terminate it; then a new one is opened. */
export class VictimPool implements Disposable {
  readonly #client: RawClient
  #name: Buffer | undefined
  #pause: NodeJS.Timeout | undefined
  #isOver = false

  constructor(address: string) {
    this.#client = new RawClient(address)
    this.#open()
  }

  /** Replaces the placeholder in the bytes by the name of the pool. */
  named(bytes: Buffer, placeholder: string): Buffer {
    const name = this.#name
    if (!name || name.length !== placeholder.length || !bytes.includes(placeholder)) return bytes
    const named = Buffer.from(bytes)
    for (let at = named.indexOf(placeholder); at >= 0; at = named.indexOf(placeholder, at)) name.copy(named, at)
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
