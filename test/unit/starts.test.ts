import { describe, expect, it } from 'vitest'
import { Company, Starts } from '../../pool/process/spawn-throttle.js'

/** Holds the event loop for so long, as the start of a process does. */
const hold = (ms: number) => {
  for (const end = performance.now() + ms; performance.now() < end; );
}

describe('starts of processes', () => {
  it('are made one in a turn of the event loop, the first at once', async () => {
    const starts = new Starts(new Company())
    let turn = 0
    const made: number[] = []
    const count = () => {
      turn++
      if (made.length < 5) setImmediate(count)
    }
    setImmediate(count)
    const all = Array.from(
      { length: 5 },
      () => new Promise<void>((resolve) => starts.enter('one', () => resolve(void made.push(turn)))),
    )
    expect(made).toEqual([0])
    await Promise.all(all)
    expect(new Set(made).size).toBe(5)
  })

  it('wait when they have held the event loop for long, take turns by client, and all come', async () => {
    const starts = new Starts(new Company())
    const made: string[] = []
    const [large, small] = ['large', 'small']
    const begin = (client: string, name: string) =>
      new Promise<void>((resolve) => {
        starts.enter(client, () => {
          hold(80)
          made.push(name)
          resolve()
        })
      })
    const all = ['a1', 'a2', 'a3', 'a4'].map((name) => begin(large, name))
    expect(made).toEqual(['a1'])
    all.push(begin(small, 'b1'))
    await Promise.all(all)
    expect(made.indexOf('b1')).toBeLessThan(made.indexOf('a4'))
    expect(made).toHaveLength(5)
  })

  it('are not made where their client has left the line', async () => {
    const starts = new Starts(new Company())
    const made: string[] = []
    starts.enter('one', () => hold(200))
    const leave = starts.enter('one', () => void made.push('left'))
    const other = new Promise<void>((resolve) => {
      starts.enter('one', () => {
        made.push('stayed')
        resolve()
      })
    })
    leave()
    await other
    expect(made).toEqual(['stayed'])
  })

  it('of one client wait longer while another calls', async () => {
    const elapsed = async (others: boolean) => {
      const company = new Company()
      company.came('one')
      const starts = new Starts(company)
      const from = performance.now()
      let left = 4
      await new Promise<void>((resolve) => {
        for (let n = left; n > 0; n--) {
          starts.enter('one', () => {
            hold(20)
            if (--left === 0) resolve()
          })
          if (others) company.came('other')
        }
      })
      return performance.now() - from
    }
    const alone = await elapsed(false)
    expect(await elapsed(true)).toBeGreaterThan(2 * alone)
  })
})
