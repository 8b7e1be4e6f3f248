import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Turns } from '../../server/rpc/turns.js'
import { STEPS_IN_A_TURN } from '../../wire/limits.js'

/** Steps of connections, as they are taken. */
class Taken {
  readonly turns = new Turns()
  readonly steps: string[] = []

  take(connection: object, name: string, cost = 1): boolean {
    return this.turns.take(connection, cost, () => this.steps.push(name))
  }

  many(connection: object, name: string, count: number): void {
    for (let at = 0; at < count; at++) this.take(connection, `${name}${at}`)
  }
}

describe('the turns of connections', () => {
  it('take the first steps at once, and not more in a turn of the event loop than fit', async () => {
    const taken = new Taken()
    taken.many({}, '', 3 * STEPS_IN_A_TURN)
    for (const turns of [1, 2, 3, 3]) {
      expect(taken.steps.length).toBe(turns * STEPS_IN_A_TURN)
      await nextTurn()
    }
    expect(taken.steps).toEqual(Array.from({ length: 3 * STEPS_IN_A_TURN }, (_, at) => String(at)))
  })

  it('begin with the first step of one that has had none, however much others have taken', () => {
    const taken = new Taken()
    taken.many({}, 'many', 1_000)
    expect(taken.take({}, 'one')).toBe(true)
    expect(taken.steps.at(-1)).toBe('one')
  })

  it('go round: each has a step, then each the next', async () => {
    const taken = new Taken()
    const [a, b, c] = [{}, {}, {}]
    taken.many(a, 'a', STEPS_IN_A_TURN)
    for (const [connection, name] of [
      [a, 'A'],
      [a, 'A'],
      [a, 'A'],
      [b, 'first of b'],
      [b, 'B'],
      [b, 'B'],
      [c, 'first of c'],
      [c, 'C'],
    ] as const)
      taken.take(connection, name)
    taken.steps.length = 0
    await nextTurn()
    expect(taken.steps).toEqual(['A', 'B', 'C', 'A', 'B', 'A'])
  })

  it('count what a step costs', async () => {
    const taken = new Taken()
    const connection = {}
    expect(taken.take(connection, 'large', STEPS_IN_A_TURN)).toBe(true)
    expect([taken.take(connection, 'second'), taken.steps]).toEqual([false, ['large']])
    await taken.turns.idle()
    expect(taken.steps).toEqual(['large', 'second'])
  })

  it('tell who has taken a step already when the next may come', async () => {
    const { turns } = new Taken()
    const connection = {}
    for (let at = 0; at < STEPS_IN_A_TURN; at++) expect(turns.taken(connection, 1)).toBeUndefined()
    await turns.taken(connection, 1)
    expect(turns.taken(connection, 1)).toBeUndefined()
  })
})
