import { describe, expect, it } from 'vitest'
import { PendingStarts, SpawnThrottle } from '../../pool/process/spawn-throttle.js'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Enough turns for every start that may begin. */
async function turns(count = 100): Promise<void> {
  for (let at = 0; at < count; at++) await turn()
}

describe('starts of workers of owned pools', () => {
  it('begin in the order of their requests, one in a turn of the event loop', async () => {
    const throttle = new SpawnThrottle()
    const begun: number[] = []
    for (const id of [1, 2, 3]) throttle.enter(() => begun.push(id))
    expect(begun).toEqual([])
    await Promise.resolve()
    expect(begun).toEqual([1])
    await turn()
    expect(begun).toEqual([1, 2])
    await turns()
    expect(begun).toEqual([1, 2, 3])
  })

  it('wait while too many are starting, and go on as these are done', async () => {
    const throttle = new SpawnThrottle()
    const begun: number[] = []
    const leave = Array.from({ length: 30 }, (_, id) => throttle.enter(() => begun.push(id)))
    await turns()
    const limit = begun.length
    expect(limit).toBeLessThan(30)
    leave[0]?.()
    leave[1]?.()
    await turns()
    expect(begun).toEqual(Array.from({ length: limit + 2 }, (_, id) => id))
  })

  it('that are given up never begin, and keep no place', async () => {
    const throttle = new SpawnThrottle()
    const begun: number[] = []
    const leave = Array.from({ length: 30 }, (_, id) => throttle.enter(() => begun.push(id)))
    leave[1]?.()
    await turns()
    expect(begun).not.toContain(1)
    for (const one of leave) one()
    throttle.enter(() => begun.push(30))
    await turns()
    expect(begun.at(-1)).toBe(30)
  })
})

describe('the pending starts of a pool', () => {
  it('without a throttle begin at once, or after their pause', async () => {
    const starts = new PendingStarts(undefined)
    const begun: number[] = []
    starts.add(1, 0, () => begun.push(1))
    const second = new Promise<void>((resolve) => starts.add(2, 1, () => resolve(void begun.push(2))))
    expect(begun).toEqual([1])
    await second
    expect(begun).toEqual([1, 2])
  })

  it('can be cancelled while they wait, and not after', async () => {
    const starts = new PendingStarts(new SpawnThrottle())
    const begun: number[] = []
    for (const id of [1, 2]) starts.add(id, 0, () => begun.push(id))
    starts.add(3, 60_000, () => begun.push(3))
    expect([starts.cancel(2), starts.cancel(3), starts.cancel(4)]).toEqual([true, true, false])
    await turns()
    expect(begun).toEqual([1])
    expect(starts.cancel(1)).toBe(false)
  })

  it('give their place to others when they have ended', async () => {
    const throttle = new SpawnThrottle()
    const [one, other] = [new PendingStarts(throttle), new PendingStarts(throttle)]
    for (let id = 0; id < 30; id++) one.add(id, 0, () => {})
    const begun = new Promise<void>((resolve) => other.add(1, 0, resolve))
    for (let id = 0; id < 30; id++) {
      await turn()
      one.ended(id)
    }
    await begun
  })
})
