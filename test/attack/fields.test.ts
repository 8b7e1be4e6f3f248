import { afterAll, beforeAll, expect, it } from 'vitest'
import { frame } from '../support/raw-call.js'
import { RawClient } from '../support/raw-unary.js'
import { Siege } from '../support/siege.js'

/** An empty field takes two bytes on the wire, and a hundred or more when it is decoded. */

let siege: Siege
let client: RawClient
beforeAll(async () => {
  siege = await Siege.start()
  client = new RawClient(siege.address)
})
afterAll(async () => {
  client[Symbol.dispose]()
  await siege[Symbol.asyncDispose]()
})

it.each([
  ['arguments', 'Apply', '1a00'],
  ['chunks', 'Map', '1a00'],
  ['groups of calls', 'Call', '0a00'],
  ['calls of many groups', 'Call', '0a0452005200'],
])('30 MB of empty %s are refused before they use memory', async (_, method, field) => {
  const body = frame(Buffer.alloc(30_000_000, field, 'hex'))
  const answer = await siege.withstands(() => client.send({ path: `/farpool.v1.PoolService/${method}`, body }))
  expect([answer.status, answer.message]).toEqual(['3', expect.stringContaining('more than 262144 fields')])
})
