import { expect, it } from 'vitest'
import { OneAtATime } from '../../server/grpc/inbound.js'

it('what one may do at a time: all come to it, one after another, and clients take turns', async () => {
  const work = new OneAtATime()
  const [many, few] = [{}, {}]
  const order: string[] = []
  let inside = 0
  const one = async (client: object, name: string) => {
    const leave = await work.enter(client)
    expect(++inside).toBe(1)
    order.push(name)
    await new Promise(setImmediate)
    inside--
    leave()
    // A second time it lets in nobody.
    leave()
  }
  await Promise.all([
    ...['a1', 'a2', 'a3', 'a4'].map((name) => one(many, name)),
    ...['b1', 'b2'].map((name) => one(few, name)),
  ])
  expect(order).toEqual(['a1', 'a2', 'b1', 'a3', 'b2', 'a4'])
  await one(many, 'again')
})
