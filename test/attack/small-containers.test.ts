import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { type Farm, startFarm } from '../support/farm.js'
import { MemoryGroup, whyNoMemoryGroup } from '../support/memory-group.js'
import { frame } from '../support/raw-call.js'
import { RawClient } from '../support/raw-unary.js'
import { applyRequest } from './requests.js'

/** A server in a container of little memory, and clients that send as much as they can at once. */

const KIB = 1024
const MIB = 1024 * KIB
const UPLOADS = 16
const ROUNDS = 3
const why = whyNoMemoryGroup()

/** A request with a text of this size. */
const upload = (bytes: number): Buffer => frame(applyRequest('lengthOf', 'x'.repeat(bytes)))

/** Sends nearly all of a message, as far as the server reads it. Resolves when it is sent, or refused. */
async function stall(client: RawClient, message: Buffer): Promise<void> {
  const { stream, answer } = client.open({})
  const written = new Promise<void>((resolve) => stream.write(message.subarray(0, -1), () => resolve()))
  await Promise.race([written, answer, once(client.session, 'close')])
}

async function attack(farm: Farm, bytes: number, isWhole: boolean): Promise<void> {
  const message = upload(bytes)
  const clients = Array.from({ length: UPLOADS }, () => new RawClient(farm.address))
  const answers = clients.map((client) => (isWhole ? client.send({ body: message }) : stall(client, message)))
  // A call of another client, in the middle of it.
  expect(await farm.pool.apply('add', [1, 2])).toBe(3)
  await Promise.all(answers)
  expect(await farm.pool.apply('add', [1, 2])).toBe(3)
  for (const client of clients) client[Symbol.dispose]()
}

describe.skipIf(why !== '')(`a server in a container${why}`, () => {
  it.each([128, 256, 512])('of %i MiB withstands 16 uploads at once', async (mib) => {
    await using group = new MemoryGroup(mib)
    await using farm = await startFarm({
      args: ['--processes', '2'],
      module: `export const add = (a, b) => a + b\nexport const lengthOf = (text) => text.length`,
      prefix: group.prefix,
    })
    const { maxMessageBytes } = (await farm.pool.info()).server
    for (const bytes of [30 * MIB, maxMessageBytes - KIB, 2 * maxMessageBytes]) {
      for (let round = 0; round < ROUNDS; round++) {
        for (const isWhole of [true, false]) await attack(farm, bytes, isWhole)
      }
    }
    expect(farm.server.log.filter(({ msg }) => msg === 'worker has ended')).toEqual([])
  })

  it('warns at its start if its limits do not fit into the memory', async () => {
    await using group = new MemoryGroup(256)
    await using farm = await startFarm({
      args: ['--processes', '1', '--max-message-bytes', String(64 * MIB)],
      prefix: group.prefix,
    })
    const line = await farm.server.logged(({ msg }) => msg.startsWith('less memory than'))
    expect(line).toMatchObject({ level: 40, memory: 256 * MIB, maxHeldBytes: 256 * MIB, processes: 1 })
  })
})
