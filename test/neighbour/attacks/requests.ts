import { gzipSync } from 'node:zlib'
import { applyRequest } from '../../attack/requests.js'
import { connectRaw, frame, message } from '../../support/raw-call.js'
import { RawClient } from '../../support/raw-unary.js'
import type { Attack, Target } from './target.js'

/** Attacks with requests and streams that a gRPC library would not send. */

const MAP = '/farpool.v1.PoolService/Map'
const MIB = 1024 * 1024

/** Keeps `width` handwritten unary requests under way. Opens a new connection after the server closed one. */
const requests = (
  what: string,
  width: number,
  request: () => { path?: string; headers?: Record<string, string>; body: Uint8Array },
): Attack => ({
  what,
  async run(target) {
    let client = new RawClient(target.address)
    void target.over.then(() => client[Symbol.dispose]())
    await target.keep(width, async () => {
      if (client.session.destroyed || client.session.closed) client = new RawClient(target.address)
      const { status, reason } = await client.send(request())
      return reason ?? (status === '0' ? 'ok' : `status ${status}`)
    })
  },
})

let packed: Buffer | undefined
function bomb(): Buffer {
  if (packed) return packed
  packed = frame(gzipSync(Buffer.alloc(70 * MIB)))
  packed[0] = 1
  return packed
}

/** A map with this many empty chunks. */
const emptyChunks = (count: number) =>
  // An ApplyRequest without arguments is a valid start of a MapRequest. Field 3 of a MapRequest is `chunks`.
  frame(Buffer.concat([applyRequest('twice'), Buffer.alloc(2 * count, Buffer.from([0x1a, 0x00]))]))

/** Opens `count` streams on one connection. Each stream keeps at least `calls` calls under way. */
async function streams(target: Target, count: number, calls: number): Promise<void> {
  using connection = connectRaw(target.address)
  const batch = (from: number) =>
    frame(message('noop', Object.fromEntries(Array.from({ length: calls }, (_, at) => [from + at, []]))))
  const lane = async () => {
    const call = connection.call()
    for (let sent = 0, seen = 0; !target.isOver; sent++) {
      call.write(batch(1 + sent * calls))
      while (!target.isOver && call.outcomes.length < (sent - 1) * calls) {
        await Promise.race([new Promise((resolve) => setTimeout(resolve, 2)), call.ended])
      }
      target.did('ok', call.outcomes.length - seen)
      seen = call.outcomes.length
    }
    call.reset()
  }
  await Promise.all(Array.from({ length: count }, lane))
}

/** Asks for large results and never reads them. */
async function unread(target: Target): Promise<void> {
  while (!target.isOver) {
    using connection = connectRaw(target.address)
    const call = connection.call()
    call.pause()
    let isOver = false
    void call.ended.then(() => {
      isOver = true
    })
    void target.over.then(() => connection[Symbol.dispose]())
    for (let at = 0; !target.isOver && !isOver && at < 200; at++) {
      const ids = Array.from({ length: 20 }, (_, n) => [1 + 20 * at + n, [64 * 1024]])
      call.write(frame(message('bytes', Object.fromEntries(ids))))
      target.did('calls', 20)
      await Promise.race([call.drained(), call.ended])
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    // All calls are sent. Keep the connection open without reading.
    await Promise.race([call.ended, target.over])
  }
}

export const REQUEST_ATTACKS: Record<string, Attack> = {
  streams: {
    what: '100 streams of calls on one connection, 200 calls that do nothing in each',
    run: (target) => streams(target, 100, 100),
  },
  unread: { what: '4,000 results of 64 KiB that are never read', run: unread },
  malformed: requests('bytes that are no protobuf message, 50 under way', 50, () => ({
    body: frame(Buffer.alloc(1_000, 0xff)),
  })),
  fields: requests('maps of 262,000 empty chunks, one after another', 1, () => ({
    path: MAP,
    body: emptyChunks(262_000),
  })),
  fieldless: requests('requests of 70 MB of empty fields, one after another', 1, () => ({
    path: MAP,
    body: emptyChunks(35_000_000),
  })),
  bomb: requests('70 MiB of nothing as 70 KB of gzip, 4 under way', 4, () => ({
    headers: { 'grpc-encoding': 'gzip' },
    body: bomb(),
  })),
}
