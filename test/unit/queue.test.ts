import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TaskQueue } from '../../pool/scheduler/fair-queue.js'
import { Estimates } from '../../pool/scheduler/run-queue.js'
import { type Client, Task } from '../../pool/scheduler/task.js'
import { job } from '../support/scheduler.js'

const nobody = { settled: () => {} }
const task = (id: number, client: Client = 'one', bytes = id): Task =>
  new Task(id, job({ client }), [new Uint8Array(bytes)], undefined, nobody, 0)

const shift = (queue: TaskQueue): Task | undefined => {
  const next = queue.peek()
  if (next) queue.take(next)
  return next
}
const drain = (queue: TaskQueue): (number | undefined)[] => Array.from({ length: queue.size }, () => shift(queue)?.id)

describe('the queue', () => {
  it('behaves as a list for one client, whatever is pushed, put in front, taken and removed', () => {
    const step = fc.record({
      kind: fc.constantFrom('push', 'unshift', 'shift', 'remove'),
      id: fc.integer({ min: 1, max: 30 }),
    })
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const queue = new TaskQueue()
        const tasks = new Map<number, Task>()
        // What was put in front is before all else, and so are two lists one.
        let list: number[] = []
        for (const { kind, id } of steps) {
          const isIn = list.includes(id)
          if ((kind === 'push' || kind === 'unshift') && !isIn) {
            tasks.set(id, task(id))
            queue[kind](tasks.get(id) as Task)
            list = kind === 'push' ? [...list, id] : [id, ...list]
          }
          if (kind === 'shift') expect(shift(queue)?.id).toBe(list.shift())
          if (kind === 'remove') {
            expect(queue.remove(tasks.get(id) ?? task(id))).toBe(isIn)
            list = list.filter((other) => other !== id)
          }
          expect([queue.size, queue.bytes]).toEqual([list.length, list.reduce((sum, other) => sum + other, 0)])
          expect(queue.peek()?.id).toBe(list[0])
        }
        expect(drain(queue)).toEqual(list)
      }),
    )
  })

  it('behaves as a list for each client, and a list of clients that take turns', () => {
    const step = fc.record({
      kind: fc.constantFrom('push', 'push', 'push', 'unshift', 'shift', 'shift', 'remove'),
      client: fc.nat(3),
      pick: fc.nat(99),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
        const queue = new TaskQueue()
        const back: Task[] = []
        const turns: { client: number; tasks: Task[] }[] = []
        const all = () => [...back, ...turns.flatMap(({ tasks }) => tasks)]
        /** The client of the first turn loses it, to the others; one without tasks has none. */
        const next = (): Task | undefined => {
          if (back.length > 0) return back.shift()
          const turn = turns.shift()
          const task = turn?.tasks.shift()
          if (turn && turn.tasks.length > 0) turns.push(turn)
          return task
        }
        for (const [at, { kind, client, pick }] of steps.entries()) {
          const one = task(at + 1, String(client))
          if (kind === 'push') {
            queue.push(one)
            const turn = turns.find((other) => other.client === client)
            if (turn) turn.tasks.push(one)
            else turns.push({ client, tasks: [one] })
          } else if (kind === 'unshift') {
            queue.unshift(one)
            back.unshift(one)
          } else if (kind === 'shift') expect(shift(queue)).toBe(next())
          else {
            const gone = all()[pick % Math.max(1, all().length)] ?? one
            expect(queue.remove(gone)).toBe(gone !== one)
            expect(queue.remove(gone)).toBe(false)
            for (const list of [back, ...turns.map(({ tasks }) => tasks)])
              if (list.includes(gone)) list.splice(list.indexOf(gone), 1)
            for (const turn of turns.filter(({ tasks }) => tasks.length === 0)) turns.splice(turns.indexOf(turn), 1)
          }
          expect([queue.size, queue.bytes]).toEqual([all().length, all().reduce((sum, { bytes }) => sum + bytes, 0)])
          expect(queue.peek()).toBe(back[0] ?? turns[0]?.tasks[0])
        }
        for (let waiting = all().length; waiting > 0; waiting--) expect(shift(queue)).toBe(next())
        expect([shift(queue), queue.size, queue.bytes]).toEqual([undefined, 0, 0])
      }),
    )
  })

  it('lets clients take turns, each of them in its own order', () => {
    const queue = new TaskQueue()
    for (const id of [1, 2, 3, 4]) queue.push(task(id, 'many'))
    queue.push(task(5, 'few'))
    queue.push(task(6, 'few'))
    queue.push(task(7, 'one'))
    expect(drain(queue)).toEqual([1, 5, 7, 2, 6, 3, 4])
  })

  it('delays the only task of one by one turn, behind a million of another', () => {
    const queue = new TaskQueue()
    for (let id = 1; id <= 1_000_000; id++) queue.push(task(id, 'many', 0))
    queue.push(task(0, 'one', 0))
    expect([shift(queue)?.id, shift(queue)?.id]).toEqual([1, 0])
  })

  it('takes what comes back before all others, without costing its client a turn', () => {
    const queue = new TaskQueue()
    queue.push(task(1, 'a'))
    queue.push(task(2, 'b'))
    queue.unshift(task(3, 'b'))
    expect(drain(queue)).toEqual([3, 1, 2])
  })
})

describe('turns are for time', () => {
  /** Takes and runs as many tasks as there are, each for as long as its client's take; whose they were. */
  const play = (queue: TaskQueue, ms: Record<string, number>, tasks: number): Client[] =>
    Array.from({ length: tasks }, () => {
      const taken = shift(queue)
      const client = taken?.job.client ?? 'nobody'
      taken?.ran(ms[String(client)] ?? 0)
      return client
    })
  const count = (clients: readonly Client[], client: Client) => clients.filter((one) => one === client).length

  it('a client of long tasks gets as much of it as one of short tasks, not as many tasks', () => {
    const queue = new TaskQueue()
    for (let id = 1; id <= 500; id++) for (const client of ['long', 'short']) queue.push(task(id, client))
    const taken = play(queue, { long: 100, short: 2 }, 210)
    // In turns by number it would be 105 of each.
    expect(count(taken, 'long')).toBeLessThanOrEqual(5)
    expect(count(taken, 'long')).toBeGreaterThanOrEqual(3)
  })

  it('a client that comes later has the next turn, and is not made to wait for what others have had', () => {
    const queue = new TaskQueue()
    for (let id = 1; id <= 10; id++) for (const client of ['a', 'b']) queue.push(task(id, client))
    play(queue, { a: 100, b: 100 }, 10)
    queue.push(task(11, 'late'))
    expect(play(queue, { a: 100, b: 100 }, 2)).toContain('late')
  })

  it('a client is not made to wait until each of hundreds has had as much as it had', () => {
    const queue = new TaskQueue()
    const others = Array.from({ length: 300 }, (_, at) => `other-${at}`)
    for (let id = 1; id <= 100; id++) for (const client of ['one', ...others]) queue.push(task(id, client))
    const taken = play(queue, { one: 10 }, 2_000)
    // A turn of all others takes 300, and 10 ms of each of them 30,000.
    expect(count(taken, 'one')).toBeGreaterThanOrEqual(3)
  })

  it('what a client owes does not keep it from idle workers', () => {
    const queue = new TaskQueue()
    for (let id = 1; id <= 10; id++) queue.push(task(id, 'long'))
    queue.push(task(11, 'short'))
    play(queue, { long: 100, short: 1 }, 4)
    expect(play(queue, { long: 100 }, 7)).toEqual(Array(7).fill('long'))
  })

  const streamOf = (connection: object) => ({ isFull: false, isHeldBack: true, connection })

  it('many streams of one connection get as much of it as the only one of another', () => {
    const queue = new TaskQueue()
    const connection = {}
    const streams = Array.from({ length: 50 }, () => streamOf(connection))
    for (let id = 1; id <= 100; id++) for (const client of [...streams, 'one']) queue.push(task(id, client))
    const taken = Array.from({ length: 100 }, () => {
      const next = shift(queue) as Task
      next.ran(5)
      return next.job.client
    })
    expect(count(taken, 'one')).toBe(50)
    // And each of them as much as the others.
    for (const stream of streams) expect(count(taken, stream)).toBe(1)
  })

  it('a connection takes turns together with its streams, and keeps what it owes when they have ended', () => {
    const connection = { isFull: false, isHeldBack: false }
    const queue = new TaskQueue()
    queue.push(task(1, streamOf(connection)))
    shift(queue)?.ran(100)
    queue.push(task(2, connection))
    for (let id = 3; id <= 12; id++) queue.push(task(id, 'other'))
    expect(play(queue, { other: 9 }, 10)).toEqual(Array(10).fill('other'))
  })

  it('what long tasks of one stream take its siblings have too, before the next of them', () => {
    const connection = {}
    const [long, short] = [streamOf(connection), streamOf(connection)]
    const queue = new TaskQueue()
    for (let id = 1; id <= 100; id++) for (const client of [long, short]) queue.push(task(id, client))
    const taken = Array.from({ length: 52 }, () => {
      const next = shift(queue) as Task
      next.ran(next.job.client === long ? 100 : 2)
      return next.job.client
    })
    expect(count(taken, long)).toBeLessThanOrEqual(3)
  })

  it('a stream that goes on over another connection shares the turns of that one, with all that waits', () => {
    const [before, now] = [{}, {}]
    const session = { ...streamOf(before) }
    const queue = new TaskQueue()
    for (let id = 1; id <= 40; id++) queue.push(task(id, session))
    const begun = shift(queue) as Task
    session.connection = now
    const sibling = streamOf(now)
    for (let id = 41; id <= 80; id++) for (const client of [sibling, session, 'other']) queue.push(task(id, client))
    begun.ran(0)
    const taken = Array.from({ length: 40 }, () => {
      const next = shift(queue) as Task
      next.ran(5)
      return next.job.client
    })
    expect([session, sibling, 'other'].map((client) => count(taken, client))).toEqual([10, 10, 20])
    expect([queue.size, queue.sizeOf(session)]).toEqual([119, 69])
    expect(new Set(Array.from({ length: 119 }, () => shift(queue))).size).toBe(119)
    expect(queue.peek()).toBeUndefined()
  })

  it('a client whose next task comes when one has ended gives back what it had, but not what it had long before', () => {
    const client = { isFull: false, isHeldBack: true }
    const queue = new TaskQueue()
    const runAlone = (ms: number) => {
      queue.push(task(1, client))
      shift(queue)?.ran(ms)
    }
    runAlone(100)
    for (let id = 1; id <= 500; id++) queue.push(task(id, 'other'))
    queue.push(task(2, client))
    expect(play(queue, { other: 2 }, 40)).toEqual(Array(40).fill('other'))
    expect(play(queue, { other: 2 }, 20)).toContain(client)
    runAlone(3_600_000)
    queue.push(task(3, client))
    // A second of it, and not an hour.
    for (let id = 1; id <= 500; id++) queue.push(task(id, 'other'))
    expect(play(queue, { other: 10 }, 200)).toContain(client)
  })

  it('whatever is pushed, paid and taken: the next task stays the next until it is taken, and none is forgotten', () => {
    const connections = [{}, {}] as const
    const clients = [0, 0, 1, 1].map((at) => streamOf(connections[at] as object))
    const step = fc.record({ kind: fc.constantFrom('push', 'push', 'take', 'pay', 'move'), pick: fc.nat(99) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
        const queue = new TaskQueue()
        const waiting = new Set<Task>()
        const running: Task[] = []
        for (const [at, { kind, pick }] of steps.entries()) {
          if (kind === 'push') {
            const pushed = task(at + 1, clients[pick % 4])
            queue.push(pushed)
            waiting.add(pushed)
          } else if (kind === 'take') {
            const next = queue.peek()
            expect(queue.peek()).toBe(next)
            if (next) queue.take(next)
            expect(next ? waiting.delete(next) : waiting.size === 0).toBe(true)
            if (next) running.push(next)
          } else if (kind === 'pay') running.shift()?.ran(pick)
          else (clients[pick % 4] as { connection: object }).connection = connections[pick % 2] as object
          expect(queue.size).toBe(waiting.size)
        }
        expect(new Set(Array.from({ length: waiting.size }, () => shift(queue)))).toEqual(waiting)
      }),
    )
  })

  it('what comes back is paid for by the client that it belongs to', () => {
    const queue = new TaskQueue()
    for (let id = 1; id <= 3; id++) for (const client of ['long', 'short']) queue.push(task(id, client))
    const back = shift(queue) as Task
    queue.unshift(back)
    shift(queue)?.ran(100)
    expect([back.job.client, shift(queue)?.job.client, shift(queue)?.job.client]).toEqual(['long', 'short', 'short'])
  })
})

describe('a client that is full', () => {
  it('has to wait, and others do not', () => {
    const client = { isFull: true, isHeldBack: true }
    const queue = new TaskQueue()
    queue.push(task(1, client))
    queue.push(task(2, client))
    queue.push(task(3, 'other'))
    expect([shift(queue)?.id, shift(queue)?.id, queue.size]).toEqual([3, undefined, 2])
    client.isFull = false
    expect(drain(queue)).toEqual([1, 2])
  })

  it('does not keep others of its connection waiting', () => {
    const connection = {}
    const client = { isFull: true, isHeldBack: true, connection }
    const queue = new TaskQueue()
    queue.push(task(1, client))
    queue.push(task(2, { ...client, isFull: false }))
    expect([shift(queue)?.id, shift(queue)?.id]).toEqual([2, undefined])
    client.isFull = false
    expect(drain(queue)).toEqual([1])
  })

  it('is drained with all others', () => {
    const queue = new TaskQueue()
    for (const id of [1, 2]) queue.push(task(id, { isFull: true, isHeldBack: true }))
    queue.unshift(task(3))
    expect([[...queue.drain()].map(({ id }) => id), queue.size]).toEqual([[3, 1, 2], 0])
  })
})

describe('estimates', () => {
  it('rise fast and fall slowly', () => {
    const estimates = new Estimates()
    expect(estimates.of(task(1))).toBeUndefined()
    estimates.learn(task(1), 1)
    expect(estimates.of(task(1))).toBe(1)
    estimates.learn(task(1), 101)
    expect(estimates.of(task(1))).toBe(51)
    estimates.learn(task(1), 1)
    expect(estimates.of(task(1))).toBe(46)
  })

  it('learn nothing from what no time can be', () => {
    const estimates = new Estimates()
    for (const ranMs of [Number.NaN, Number.POSITIVE_INFINITY, -1, 0]) estimates.learn(task(1), ranMs)
    expect(estimates.of(task(1))).toBeUndefined()
  })

  it('are apart for sizes, for chunks and for functions', () => {
    const estimates = new Estimates()
    estimates.learn(task(1, 'one', 100), 5)
    expect(estimates.of(task(2, 'one', 120))).toBe(5)
    expect(estimates.of(task(2, 'one', 1_000))).toBeUndefined()
    expect(estimates.of(new Task(1, job(), undefined, new Uint8Array(100), nobody, 0))).toBeUndefined()
    expect(
      estimates.of(new Task(1, job({ function: 'g' }), [new Uint8Array(100)], undefined, nobody, 0)),
    ).toBeUndefined()
  })
})
