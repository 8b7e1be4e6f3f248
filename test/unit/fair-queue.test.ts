import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FairQueue } from '../../pool/scheduler/fair-queue.js'
import { Estimates } from '../../pool/scheduler/run-queue.js'
import { type Client, Task } from '../../pool/scheduler/task.js'
import { clientNamed, job, makeClient, streamOf } from '../support/scheduler.js'

/** The fair queue: invariants Q1 to Q4 of fair-queue.ts, and the estimates that prefetching relies on. */

const owner = { settled: () => {} }
const task = (id: number, client: Client | string = 'one', bytes = id): Task =>
  new Task(id, { job: job({ client }), args: [new Uint8Array(bytes)], chunk: undefined, owner, key: 0, isHeld: false })

const takeNext = (queue: FairQueue): Task | undefined => {
  const next = queue.peek()
  if (next) queue.take(next)
  return next
}
const takeAll = (queue: FairQueue): (number | undefined)[] =>
  Array.from({ length: queue.size }, () => takeNext(queue)?.id)

describe('the fair queue', () => {
  it('behaves as a list for one client, whatever is pushed, put in front, taken and removed (Q1, Q4)', () => {
    const step = fc.record({
      kind: fc.constantFrom('push', 'unshift', 'take', 'remove'),
      id: fc.integer({ min: 1, max: 30 }),
    })
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const queue = new FairQueue()
        const tasks = new Map<number, Task>()
        let list: number[] = []
        for (const { kind, id } of steps) {
          const isIn = list.includes(id)
          if ((kind === 'push' || kind === 'unshift') && !isIn) {
            tasks.set(id, task(id))
            queue[kind](tasks.get(id) as Task)
            list = kind === 'push' ? [...list, id] : [id, ...list]
          }
          if (kind === 'take') expect(takeNext(queue)?.id).toBe(list.shift())
          if (kind === 'remove') {
            expect(queue.remove(tasks.get(id) ?? task(id))).toBe(isIn)
            list = list.filter((other) => other !== id)
          }
          expect([queue.size, queue.bytes]).toEqual([list.length, list.reduce((sum, other) => sum + other, 0)])
          expect(queue.peek()?.id).toBe(list[0])
        }
        expect(takeAll(queue)).toEqual(list)
      }),
    )
  })

  it('behaves as one list for each client, and as a list of clients that take turns (Q1, Q4)', () => {
    const step = fc.record({
      kind: fc.constantFrom('push', 'push', 'push', 'unshift', 'take', 'take', 'remove'),
      client: fc.nat(3),
      pick: fc.nat(99),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
        const queue = new FairQueue()
        const front: Task[] = []
        const turns: { client: number; tasks: Task[] }[] = []
        const all = () => [...front, ...turns.flatMap(({ tasks }) => tasks)]
        /** The client of the first turn goes behind the others; a client without tasks has no turn. */
        const next = (): Task | undefined => {
          if (front.length > 0) return front.shift()
          const turn = turns.shift()
          const first = turn?.tasks.shift()
          if (turn && turn.tasks.length > 0) turns.push(turn)
          return first
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
            front.unshift(one)
          } else if (kind === 'take') expect(takeNext(queue)).toBe(next())
          else {
            const gone = all()[pick % Math.max(1, all().length)] ?? one
            expect(queue.remove(gone)).toBe(gone !== one)
            expect(queue.remove(gone)).toBe(false)
            for (const list of [front, ...turns.map(({ tasks }) => tasks)])
              if (list.includes(gone)) list.splice(list.indexOf(gone), 1)
            for (const turn of turns.filter(({ tasks }) => tasks.length === 0)) turns.splice(turns.indexOf(turn), 1)
          }
          expect([queue.size, queue.bytes]).toEqual([all().length, all().reduce((sum, { bytes }) => sum + bytes, 0)])
          expect(queue.peek()).toBe(front[0] ?? turns[0]?.tasks[0])
        }
        for (let waiting = all().length; waiting > 0; waiting--) expect(takeNext(queue)).toBe(next())
        expect([takeNext(queue), queue.size, queue.bytes]).toEqual([undefined, 0, 0])
      }),
    )
  })

  it('lets clients take turns, and keeps the order of each', () => {
    const queue = new FairQueue()
    for (const id of [1, 2, 3, 4]) queue.push(task(id, 'many'))
    queue.push(task(5, 'few'))
    queue.push(task(6, 'few'))
    queue.push(task(7, 'one'))
    expect(takeAll(queue)).toEqual([1, 5, 7, 2, 6, 3, 4])
  })

  it("delays a client's only task by one turn behind 100,000 tasks of another", () => {
    const queue = new FairQueue()
    for (let id = 1; id <= 100_000; id++) queue.push(task(id, 'many', 0))
    queue.push(task(0, 'one', 0))
    expect([takeNext(queue)?.id, takeNext(queue)?.id]).toEqual([1, 0])
  })

  it('takes a task that comes back before all others, without costing its client a turn (Q4)', () => {
    const queue = new FairQueue()
    queue.push(task(1, 'a'))
    queue.push(task(2, 'b'))
    queue.unshift(task(3, 'b'))
    expect(takeAll(queue)).toEqual([3, 1, 2])
  })
})

describe('turns are for worker time (Q2, Q3)', () => {
  /** Takes and runs this many tasks, each for the time that its client's tasks take. Returns the names of their clients. */
  const run = (queue: FairQueue, ms: Record<string, number>, tasks: number): string[] =>
    Array.from({ length: tasks }, () => {
      const taken = takeNext(queue)
      const name = taken?.job.client.identity.name ?? 'nobody'
      taken?.charge(ms[name] ?? 0)
      return name
    })
  /** As `run`, for tasks that all take 5 ms; returns the clients themselves. */
  const clientsOf = (queue: FairQueue, tasks: number): Client[] =>
    Array.from({ length: tasks }, () => {
      const next = takeNext(queue) as Task
      next.charge(5)
      return next.job.client
    })
  const count = <T>(list: readonly T[], value: T) => list.filter((one) => one === value).length

  it('a client of long tasks gets as much time as a client of short tasks, not as many tasks', () => {
    const queue = new FairQueue()
    for (let id = 1; id <= 500; id++) for (const client of ['long', 'short']) queue.push(task(id, client))
    const taken = run(queue, { long: 100, short: 2 }, 210)
    // With turns by number it would be 105 of each.
    expect(count(taken, 'long')).toBeLessThanOrEqual(5)
    expect(count(taken, 'long')).toBeGreaterThanOrEqual(3)
  })

  it('a client that comes later has the next turn: it does not wait for what others had before', () => {
    const queue = new FairQueue()
    for (let id = 1; id <= 10; id++) for (const client of ['a', 'b']) queue.push(task(id, client))
    run(queue, { a: 100, b: 100 }, 10)
    queue.push(task(11, 'late'))
    expect(run(queue, { a: 100, b: 100 }, 2)).toContain('late')
  })

  it('a client does not wait until each of hundreds of others has had as much as it had', () => {
    const queue = new FairQueue()
    const others = Array.from({ length: 300 }, (_, at) => `other-${at}`)
    for (let id = 1; id <= 100; id++) for (const client of ['one', ...others]) queue.push(task(id, client))
    const taken = run(queue, { one: 10 }, 2_000)
    // One turn of all others is 300 tasks; 10 ms for each of them would be 30,000.
    expect(count(taken, 'one')).toBeGreaterThanOrEqual(3)
  })

  it('a debt does not keep a client from idle workers', () => {
    const queue = new FairQueue()
    for (let id = 1; id <= 10; id++) queue.push(task(id, 'long'))
    queue.push(task(11, 'short'))
    run(queue, { long: 100, short: 1 }, 4)
    expect(run(queue, { long: 100 }, 7)).toEqual(Array(7).fill('long'))
  })

  it('many streams of one connection get as much time as the only stream of another', () => {
    const queue = new FairQueue()
    const connection = makeClient()
    const streams = Array.from({ length: 50 }, () => streamOf(connection))
    for (let id = 1; id <= 100; id++) for (const client of [...streams, 'one']) queue.push(task(id, client))
    const taken = clientsOf(queue, 100)
    expect(count(taken, clientNamed('one'))).toBe(50)
    // And each stream as much as the others.
    for (const stream of streams) expect(count(taken, stream)).toBe(1)
  })

  it('a connection shares its turns with its streams, and keeps their debt when they have ended', () => {
    const connection = makeClient({ isPaced: false })
    const queue = new FairQueue()
    queue.push(task(1, streamOf(connection)))
    takeNext(queue)?.charge(100)
    queue.push(task(2, connection))
    for (let id = 3; id <= 12; id++) queue.push(task(id, 'other'))
    expect(run(queue, { other: 9 }, 10)).toEqual(Array(10).fill('other'))
  })

  it('after a long task of one stream, the other streams of its connection have as much before its next', () => {
    const connection = makeClient()
    const [long, short] = [streamOf(connection), streamOf(connection)]
    const queue = new FairQueue()
    for (let id = 1; id <= 100; id++) for (const client of [long, short]) queue.push(task(id, client))
    const taken = Array.from({ length: 52 }, () => {
      const next = takeNext(queue) as Task
      next.charge(next.job.client === long ? 100 : 2)
      return next.job.client
    })
    expect(count<Client>(taken, long)).toBeLessThanOrEqual(3)
  })

  it('a session that comes back on another connection shares its turns, with all its waiting tasks', () => {
    const [before, now] = [makeClient(), makeClient()]
    const session = streamOf(before)
    const queue = new FairQueue()
    for (let id = 1; id <= 40; id++) queue.push(task(id, session))
    const begun = takeNext(queue) as Task
    session.identity = now.identity
    const sibling = streamOf(now)
    for (let id = 41; id <= 80; id++) for (const client of [sibling, session, 'other']) queue.push(task(id, client))
    begun.charge(0)
    const taken = clientsOf(queue, 40)
    expect([session, sibling, clientNamed('other')].map((client) => count<Client>(taken, client))).toEqual([10, 10, 20])
    expect([queue.size, queue.sizeOfIdentity(now.identity)]).toEqual([119, 99])
    expect(new Set(Array.from({ length: 119 }, () => takeNext(queue))).size).toBe(119)
    expect(queue.peek()).toBeUndefined()
  })

  it('a client that sends its next task when one has ended pays its debt, but not for long ago (Q3)', () => {
    const client = makeClient({ identity: { name: 'serial' } })
    const queue = new FairQueue()
    const runAlone = (ms: number) => {
      queue.push(task(1, client))
      takeNext(queue)?.charge(ms)
    }
    runAlone(100)
    for (let id = 1; id <= 500; id++) queue.push(task(id, 'other'))
    queue.push(task(2, client))
    expect(run(queue, { other: 2 }, 40)).toEqual(Array(40).fill('other'))
    expect(run(queue, { other: 2 }, 20)).toContain('serial')
    runAlone(3_600_000)
    queue.push(task(3, client))
    // It waits for one second of the others' work, not for an hour.
    for (let id = 1; id <= 500; id++) queue.push(task(id, 'other'))
    expect(run(queue, { other: 10 }, 200)).toContain('serial')
  })

  it('the next task stays the next until it is taken, and none is forgotten, whatever happens', () => {
    const identities = [{ name: 'a' }, { name: 'b' }] as const
    const clients = [0, 0, 1, 1].map((at) => makeClient({ identity: identities[at] ?? identities[0] }))
    const step = fc.record({ kind: fc.constantFrom('push', 'push', 'take', 'charge', 'move'), pick: fc.nat(99) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
        const queue = new FairQueue()
        const waiting = new Set<Task>()
        const running: Task[] = []
        for (const [at, { kind, pick }] of steps.entries()) {
          const client = clients[pick % 4]
          if (kind === 'push') {
            const pushed = task(at + 1, client)
            queue.push(pushed)
            waiting.add(pushed)
          } else if (kind === 'take') {
            const next = queue.peek()
            expect(queue.peek()).toBe(next)
            if (next) queue.take(next)
            expect(next ? waiting.delete(next) : waiting.size === 0).toBe(true)
            if (next) running.push(next)
          } else if (kind === 'charge') running.shift()?.charge(pick)
          else if (client) client.identity = identities[pick % 2] ?? identities[0]
          expect(queue.size).toBe(waiting.size)
        }
        expect(new Set(Array.from({ length: waiting.size }, () => takeNext(queue)))).toEqual(waiting)
      }),
    )
  })

  it('a task that came back is charged to its own client (Q4)', () => {
    const queue = new FairQueue()
    for (let id = 1; id <= 3; id++) for (const client of ['long', 'short']) queue.push(task(id, client))
    const back = takeNext(queue) as Task
    queue.unshift(back)
    takeNext(queue)?.charge(100)
    const names = [back, takeNext(queue), takeNext(queue)].map((taken) => taken?.job.client.identity.name)
    expect(names).toEqual(['long', 'short', 'short'])
  })
})

describe('a full client', () => {
  it('waits, while others do not', () => {
    const client = makeClient({ isFull: true })
    const queue = new FairQueue()
    queue.push(task(1, client))
    queue.push(task(2, client))
    queue.push(task(3, 'other'))
    expect([takeNext(queue)?.id, takeNext(queue)?.id, queue.size]).toEqual([3, undefined, 2])
    client.isFull = false
    expect(takeAll(queue)).toEqual([1, 2])
  })

  it('does not delay other clients of its identity', () => {
    const client = makeClient({ isFull: true })
    const queue = new FairQueue()
    queue.push(task(1, client))
    queue.push(task(2, streamOf(client)))
    expect([takeNext(queue)?.id, takeNext(queue)?.id]).toEqual([2, undefined])
    client.isFull = false
    expect(takeAll(queue)).toEqual([1])
  })

  it('is drained with all others', () => {
    const queue = new FairQueue()
    for (const id of [1, 2]) queue.push(task(id, makeClient({ isFull: true })))
    queue.unshift(task(3))
    expect([[...queue.drain()].map(({ id }) => id), queue.size]).toEqual([[3, 1, 2], 0])
  })
})

describe('estimates of run times', () => {
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

  it('ignore times that cannot be', () => {
    const estimates = new Estimates()
    for (const ranMs of [Number.NaN, Number.POSITIVE_INFINITY, -1, 0]) estimates.learn(task(1), ranMs)
    expect(estimates.of(task(1))).toBeUndefined()
  })

  it('are separate for sizes, for chunks and for functions', () => {
    const estimates = new Estimates()
    const bytes = new Uint8Array(100)
    estimates.learn(task(1, 'one', 100), 5)
    expect(estimates.of(task(2, 'one', 120))).toBe(5)
    expect(estimates.of(task(2, 'one', 1_000))).toBeUndefined()
    const request = { args: undefined, chunk: undefined, owner, key: 0, isHeld: false }
    expect(estimates.of(new Task(1, { ...request, job: job(), chunk: bytes }))).toBeUndefined()
    expect(estimates.of(new Task(1, { ...request, job: job({ function: 'g' }), args: [bytes] }))).toBeUndefined()
  })
})
