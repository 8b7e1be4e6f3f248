import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Client } from '../../pool/scheduler/task.js'
import { UNLIMITED } from '../support/scheduler.js'
import { Farm, type HonestWorker } from '../support/workers.js'

/** Whatever happens in whatever order, with workers that keep to their protocol: the invariants of scheduler.ts. */

/** A connection and a stream of it, which may be full, and another connection. */
const connection = { isFull: false, isHeldBack: false }
const stream = { isFull: false, isHeldBack: true, connection }
const clients: readonly Client[] = [{ isFull: false, isHeldBack: false }, connection, stream]

/** Fills the stream, or has it read again. */
function fill(farm: Farm, isFull: boolean): void {
  stream.isFull = isFull
  if (!isFull) farm.scheduler.dispatch()
}

type Act = (farm: Farm, pick: number) => void

const worker = (farm: Farm, pick: number): HonestWorker | undefined =>
  [...farm.workers.values()][pick % Math.max(1, farm.workers.size)]

const acts: Record<string, [weight: number, act: Act]> = {
  submit: [
    8,
    (farm, pick) =>
      farm.submit({ client: clients[pick % 3] as Client, function: pick % 4 === 0 ? 'g' : 'f', retries: pick % 2 }),
  ],
  ready: [3, (farm, pick) => worker(farm, pick)?.ready()],
  read: [8, (farm, pick) => worker(farm, pick)?.read()],
  step: [8, (farm, pick) => worker(farm, pick)?.step()],
  hear: [8, (farm, pick) => worker(farm, pick)?.hear()],
  feed: [6, (farm) => farm.scheduler.feed(farm.now)],
  wait: [
    2,
    (farm, pick) => {
      farm.now += pick % 15
    },
  ],
  reclaim: [3, (farm) => farm.reclaim()],
  end: [2, (farm, pick) => farm.end(pick % Math.max(1, farm.tasks.length))],
  fill: [2, (farm, pick) => fill(farm, pick % 2 === 1)],
  die: [1, (farm, pick) => worker(farm, pick)?.die(true)],
}

const step = fc.record({
  kind: fc.oneof(...Object.entries(acts).map(([kind, [weight]]) => ({ weight, arbitrary: fc.constant(kind) }))),
  pick: fc.nat(59),
})
const options = fc.record({
  processes: fc.integer({ min: 1, max: 3 }),
  maxTasksPerChild: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined }),
  maxRunningPerClient: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
})
const steps = fc.array(step, { maxLength: 250, size: 'max' })

/** Some of what can happen, and a farm after it. */
function after(farm: Farm, done: readonly { kind: string; pick: number }[]): void {
  for (const { kind, pick } of done) {
    acts[kind]?.[1](farm, pick)
    expect(farm.check()).toEqual([])
  }
}

describe('the scheduler, whatever happens', () => {
  it('settles every task once, begins it once, and ends when it is closed', () => {
    fc.assert(
      fc.property(options, steps, steps, (facts, before, behind) => {
        const farm = new Farm({ ...facts, limits: UNLIMITED })
        fill(farm, false)
        after(farm, before)
        farm.scheduler.close()
        after(farm, behind)
        fill(farm, false)
        farm.settle()
        expect(farm.check()).toEqual([])
        expect([farm.settled.size, farm.ended, farm.workers.size]).toEqual([farm.tasks.length, 1, 0])
      }),
      { numRuns: 300 },
    )
  })

  it('settles what is left at once when it is terminated, and hears no more of it', () => {
    fc.assert(
      fc.property(options, steps, steps, (facts, before, behind) => {
        const farm = new Farm({ ...facts, limits: UNLIMITED })
        fill(farm, false)
        after(farm, before)
        farm.scheduler.terminate()
        expect(farm.settled.size).toBe(farm.tasks.length)
        after(farm, behind)
        farm.settle()
        expect(farm.check()).toEqual([])
        expect([farm.settled.size, farm.ended, farm.workers.size]).toEqual([farm.tasks.length, 1, 0])
      }),
      { numRuns: 100 },
    )
  })
})
