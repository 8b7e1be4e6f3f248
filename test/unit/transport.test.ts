import { describe, expect, it } from 'vitest'
import {
  CancelledError,
  PoolTerminatedError,
  RemoteError,
  TimeoutError,
  UnavailableError,
} from '../../client/errors.js'
import { poolOver } from '../../client/pool-client.js'
import { connect } from '../../client/transport/stream-transport.js'
import type {
  ChunkOutcome,
  ChunksCall,
  FunctionCall,
  Lease,
  Pending,
  Sink,
  Ticket,
  Transport,
} from '../../client/transport/transport.js'
import { Failure } from '../../wire/failure.js'
import { decodePayload, encodePayload } from '../../wire/values/payload.js'

/** The seam between the client's API and a transport (client/transport/transport.ts), with a transport in memory. */

/** A call that the transport has received. It is under way until the test settles it, or it is cancelled. */
class Received implements Ticket {
  /** The reasons of every cancel() that reached the transport. */
  readonly cancelled: Failure[] = []

  constructor(
    readonly call: FunctionCall,
    private readonly sink: Sink,
  ) {}

  get args(): unknown[] {
    return this.call.args.map((arg) => decodePayload(arg).value)
  }

  return(value: unknown): void {
    this.sink.settle(encodePayload(value, 'cbor'), [])
  }

  refuse(failure: Failure): void {
    this.sink.settle(undefined, [{ item: undefined, failure }])
  }

  cancel(reason: Failure): void {
    this.cancelled.push(reason)
    if (this.cancelled.length === 1) this.sink.fail(reason)
  }
}

/** The chunks of a request that the transport has received. */
class ReceivedChunks implements Pending<void> {
  readonly outcome: Promise<void>
  readonly cancelled: Failure[] = []
  #left: number
  #resolve: () => void = () => {}
  #reject: (reason: Failure) => void = () => {}

  constructor(
    readonly call: ChunksCall,
    private readonly onOutcome: (outcome: ChunkOutcome) => void,
  ) {
    this.#left = call.chunks.length
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  get items(): unknown[][] {
    return this.call.chunks.map((chunk) => decodePayload(chunk).value as unknown[])
  }

  /** Ends one chunk: `run` returns the result of an item, or its Failure. */
  end(chunk: number, run: (item: unknown) => unknown): void {
    const results = (this.items[chunk] ?? []).map(run)
    const failures = results.flatMap((result, item) => (result instanceof Failure ? [{ item, failure: result }] : []))
    const values = results.filter((result) => !(result instanceof Failure))
    this.onOutcome({ chunk, payload: encodePayload(values, 'cbor'), failures })
    if (--this.#left === 0) this.#resolve()
  }

  /** Ends one chunk with a failure of the whole chunk. */
  refuse(chunk: number, failure: Failure): void {
    this.onOutcome({ chunk, payload: undefined, failures: [{ item: undefined, failure }] })
    if (--this.#left === 0) this.#resolve()
  }

  fail(reason: Failure): void {
    this.#reject(reason)
  }

  cancel(reason: Failure): void {
    this.cancelled.push(reason)
    this.fail(reason)
  }
}

class MemoryTransport implements Transport {
  wasConnected = true
  isClosed = false
  readonly applies: Received[] = []
  readonly requests: ReceivedChunks[] = []

  apply(call: FunctionCall, sink: Sink): Ticket {
    const received = new Received({ ...call }, sink)
    this.applies.push(received)
    return received
  }

  chunks(call: ChunksCall, onOutcome: (outcome: ChunkOutcome) => void): Pending<void> {
    const received = new ReceivedChunks(call, onOutcome)
    this.requests.push(received)
    return received
  }

  async serverInfo() {
    return {
      version: '1',
      runtime: 'memory',
      processes: 2,
      maxMessageBytes: 0,
      graceMs: 0,
      runTimeoutMs: 0,
      maxQueued: 0,
      maxQueuedPerClient: 0,
      pools: ['default'],
    }
  }

  openPool(): Lease {
    throw new Failure('BAD_REQUEST', 'there are no owned pools here')
  }

  async closePool(): Promise<void> {}
  async terminate(): Promise<void> {}
  async functions() {
    return []
  }

  async poolInfo(): Promise<never> {
    throw new Failure('POOL_NOT_FOUND', 'there are no pools here')
  }

  close(): void {
    this.isClosed = true
  }
}

const functionError = (message: string) => new Failure('FUNCTION_ERROR', message, { metadata: { type: 'RangeError' } })
const draining = (started: false | 'unknown') => new Failure('SERVER_DRAINING', 'the server is draining', { started })

function open() {
  const transport = new MemoryTransport()
  return { transport, pool: poolOver({ transport }) }
}

/** Waits until the condition holds; each test has a time limit. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(setImmediate)
}

/** The call of this number, once the transport has received it. */
async function received<T>(calls: readonly T[], at = 0): Promise<T> {
  for (;;) {
    const call = calls[at]
    if (call) return call
    await new Promise(setImmediate)
  }
}

async function all<T>(iterator: AsyncIterable<T>): Promise<T[]> {
  const values: T[] = []
  for await (const value of iterator) values.push(value)
  return values
}

describe('apply over a transport', () => {
  it('sends the encoded arguments and resolves with the decoded result', async () => {
    const { transport, pool } = open()
    const result = pool.apply('add', [1, 2])
    const call = await received(transport.applies)
    expect([call.call.function, call.args]).toEqual(['add', [1, 2]])
    call.return(3)
    expect(await result).toBe(3)
  })

  it('rejects with RemoteError if the function throws', async () => {
    const { transport, pool } = open()
    const result = pool.apply('add')
    const call = await received(transport.applies)
    call.refuse(functionError('too large'))
    await expect(result).rejects.toThrow(RemoteError)
    await expect(result).rejects.toMatchObject({ message: 'too large', type: 'RangeError', started: true })
    expect(transport.applies).toHaveLength(1)
  })

  it('sends a call again if the server drains and the call has not started', async () => {
    const { transport, pool } = open()
    const result = pool.apply('add', [1])
    const first = await received(transport.applies)
    first.refuse(draining(false))
    const second = await received(transport.applies, 1)
    expect(second.args).toEqual([1])
    second.return('done')
    expect(await result).toBe('done')
  })

  it('does not send a call again if it may have started', async () => {
    const { transport, pool } = open()
    const result = pool.apply('add')
    const call = await received(transport.applies)
    call.refuse(draining('unknown'))
    await expect(result).rejects.toThrow(UnavailableError)
    await expect(result).rejects.toMatchObject({ reason: 'SERVER_DRAINING', started: undefined })
    expect(transport.applies).toHaveLength(1)
  })

  it('fails at once with CONNECTION_FAILED if there has never been a connection', async () => {
    const { transport, pool } = open()
    transport.wasConnected = false
    const result = pool.apply('add')
    const call = await received(transport.applies)
    call.refuse(new Failure('CONNECTION_FAILED', 'connection refused'))
    await expect(result).rejects.toMatchObject({ reason: 'CONNECTION_FAILED' })
    expect(transport.applies).toHaveLength(1)
  })

  it('does not send a call again that is cancelled in the pause', async () => {
    const { transport, pool } = open()
    const result = pool.applyAsync('add')
    const call = await received(transport.applies)
    call.refuse(draining(false))
    expect(result.cancel()).toBe(true)
    await expect(result).rejects.toThrow(CancelledError)
    // Longer than the first pause.
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect([transport.applies.length, call.cancelled]).toEqual([1, []])
  })

  it('passes a cancellation to the transport once', async () => {
    const { transport, pool } = open()
    const controller = new AbortController()
    const result = pool.applyAsync('add', [], undefined, { signal: controller.signal })
    const call = await received(transport.applies)
    expect([result.cancel(), result.cancel()]).toEqual([true, false])
    controller.abort()
    await pool.terminate()
    await expect(result).rejects.toThrow(CancelledError)
    expect(call.cancelled.map(({ reason }) => reason)).toEqual(['CANCELLED'])
  })

  it('ignores an outcome that arrives after the call was cancelled', async () => {
    const { transport, pool } = open()
    const result = pool.applyAsync('add')
    const call = await received(transport.applies)
    result.cancel()
    call.return('late')
    await expect(result).rejects.toThrow(CancelledError)
  })

  it('fails with the reason of terminate(), which closes the transport', async () => {
    const { transport, pool } = open()
    const result = pool.applyAsync('add')
    const call = await received(transport.applies)
    await pool.terminate()
    await expect(result).rejects.toThrow(PoolTerminatedError)
    expect(call.cancelled.map(({ reason }) => reason)).toEqual(['POOL_TERMINATED'])
    expect(transport.isClosed).toBe(true)
  })

  it('waits for calls under way before close() closes the transport', async () => {
    const { transport, pool } = open()
    const result = pool.apply('add')
    const call = await received(transport.applies)
    await pool.close()
    expect(transport.isClosed).toBe(false)
    call.return(1)
    await pool.join()
    expect([await result, transport.isClosed]).toEqual([1, true])
  })
})

describe('a shared pool that cannot be reached', () => {
  it('is asked for again until the server answers', async () => {
    const { transport, pool } = open()
    const answer = transport.serverInfo
    let asked = 0
    transport.serverInfo = async () => {
      if (++asked < 3) throw new Failure('CONNECTION_FAILED', 'connection refused')
      return answer()
    }
    const result = pool.apply('add')
    const call = await received(transport.applies)
    call.return('answered')
    expect([await result, asked]).toEqual(['answered', 3])
  })

  it('is not asked for again after terminate()', async () => {
    const { transport, pool } = open()
    let asked = 0
    transport.serverInfo = async () => {
      asked++
      throw new Failure('CONNECTION_FAILED', 'connection refused')
    }
    const result = pool.applyAsync('add')
    const info = pool.info()
    await until(() => asked > 0)
    await pool.terminate()
    await expect(result).rejects.toThrow(PoolTerminatedError)
    await expect(info).rejects.toThrow(PoolTerminatedError)
    const before = asked
    // Longer than the pause that terminate() ended.
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(asked).toBe(before)
  })
})

describe('map over a transport', () => {
  it('puts the results into the order of the items, whatever the order of the chunks', async () => {
    const { transport, pool } = open()
    const result = pool.map('double', [1, 2, 3, 4, 5], { chunksize: 2 })
    const request = await received(transport.requests)
    expect(request.items).toEqual([[1, 2], [3, 4], [5]])
    for (const chunk of [2, 0, 1]) request.end(chunk, (item) => 2 * Number(item))
    expect(await result).toEqual([2, 4, 6, 8, 10])
  })

  it('rejects with the error of the first item that failed, and its index', async () => {
    const { transport, pool } = open()
    const result = pool.map('check', [1, 2, 3, 4], { chunksize: 2 })
    const request = await received(transport.requests)
    for (const chunk of [1, 0]) {
      request.end(chunk, (item) => (Number(item) % 2 === 0 ? functionError(`item ${item}`) : item))
    }
    await expect(result).rejects.toMatchObject({ name: 'RemoteError', message: 'item 2', index: 1 })
  })

  it('passes a cancellation to each request of the transport once', async () => {
    const { transport, pool } = open()
    const items = ['a', 'b'].map((text) => text.repeat(600_000))
    const result = pool.mapAsync('length', items, { chunksize: 1 })
    const requests = [await received(transport.requests), await received(transport.requests, 1)]
    result.cancel()
    await pool.terminate()
    await expect(result).rejects.toThrow(CancelledError)
    for (const { cancelled } of requests) expect(cancelled.map(({ reason }) => reason)).toEqual(['CANCELLED'])
  })

  it('cancels the other requests when one fails, and does not claim that nothing has started', async () => {
    const { transport, pool } = open()
    const items = ['a', 'b'].map((text) => text.repeat(600_000))
    const result = pool.map('length', items, { chunksize: 1 })
    const first = await received(transport.requests)
    const second = await received(transport.requests, 1)
    second.fail(new Failure('QUEUE_FULL', 'the queue is full'))
    await expect(result).rejects.toMatchObject({ name: 'LimitError', reason: 'QUEUE_FULL', started: undefined })
    expect(first.cancelled.map(({ reason }) => reason)).toEqual(['CANCELLED'])
    expect(second.cancelled).toEqual([])
  })
})

const tooLarge = new Failure('PAYLOAD_TOO_LARGE', 'it has 2 bytes; the limit is 1')

describe('a chunk that its transport refuses for its size', () => {
  it('is divided until only the item is left that is too large, which its error names', async () => {
    const { transport, pool } = open()
    const result = pool.map('double', [1, 2, 'large'.repeat(100), 4], { chunksize: 4, settle: true })
    const sent: unknown[][] = []
    for (let at = 0; sent.flat().length < 4; at++) {
      const request = await received(transport.requests, at)
      const [items = []] = request.items
      if (items.length > 1 && items.includes('large'.repeat(100))) request.refuse(0, tooLarge)
      else {
        sent.push(items)
        if (items.length === 1 && typeof items[0] === 'string') request.refuse(0, tooLarge)
        else request.end(0, (item) => 2 * Number(item))
      }
    }
    expect(await result).toMatchObject([
      { value: 2 },
      { value: 4 },
      { reason: { name: 'LimitError', index: 2, message: 'item 2 is too large: it has 2 bytes; the limit is 1' } },
      { value: 8 },
    ])
    expect(transport.requests.length).toBeLessThanOrEqual(5)
  })
})

describe('imap over a transport', () => {
  it('yields results in the order of the items', async () => {
    const { transport, pool } = open()
    const iterator = pool.imap('double', [1, 2, 3])
    const request = await received(transport.requests)
    for (const chunk of [2, 1, 0]) request.end(chunk, (item) => 2 * Number(item))
    expect(await all(iterator)).toEqual([2, 4, 6])
  })

  it('waits for the next result in order', async () => {
    const { transport, pool } = open()
    const iterator = pool.imap('double', [1, 2])
    const request = await received(transport.requests)
    request.end(1, (item) => item)
    await expect(iterator.next(10)).rejects.toThrow(TimeoutError)
    request.end(0, (item) => item)
    expect([await iterator.next(), await iterator.next()].map(({ value }) => value)).toEqual([1, 2])
  })

  it('imapUnordered yields results in the order in which they arrive', async () => {
    const { transport, pool } = open()
    const iterator = pool.imapUnordered('double', [1, 2, 3])
    const request = await received(transport.requests)
    for (const chunk of [2, 0, 1]) request.end(chunk, (item) => 2 * Number(item))
    expect(await all(iterator)).toEqual([6, 2, 4])
  })

  it('pulls no more chunks from the input than the window has', async () => {
    const { transport, pool } = open()
    let pulled = 0
    function* numbers() {
      for (;;) yield pulled++
    }
    const iterator = pool.imap('double', numbers())
    await received(transport.requests)
    expect(pulled).toBe(16)
    await iterator.return()
  })

  it('passes the end of the iteration to the transport once', async () => {
    const { transport, pool } = open()
    const iterator = pool.imap('double', [1, 2])
    const request = await received(transport.requests)
    await iterator.return()
    await pool.terminate()
    expect(request.cancelled.map(({ reason }) => reason)).toEqual(['CANCELLED'])
    expect(await iterator.next()).toEqual({ done: true, value: undefined })
  })

  it('throws the reason of terminate() behind the results that have arrived', async () => {
    const { transport, pool } = open()
    const iterator = pool.imap('double', [1, 2])
    const request = await received(transport.requests)
    request.end(0, (item) => item)
    await pool.terminate()
    expect(await iterator.next()).toEqual({ done: false, value: 1 })
    await expect(iterator.next()).rejects.toThrow(PoolTerminatedError)
    expect(request.cancelled.map(({ reason }) => reason)).toEqual(['POOL_TERMINATED'])
  })
})

describe.each(['stream', 'unary'] as const)('a closed %s transport', (kind) => {
  it('rejects every request for information with POOL_CLOSED', async () => {
    const transport = connect('localhost:1', { transport: kind })
    transport.close()
    for (const request of [transport.serverInfo(''), transport.functions(''), transport.poolInfo('')]) {
      await expect(request).rejects.toThrow(Failure)
      await expect(request).rejects.toMatchObject({ reason: 'POOL_CLOSED' })
    }
  })
})
