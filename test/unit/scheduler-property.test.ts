import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { makeClient, streamOf, UNLIMITED } from '../support/scheduler.js'
import { type SimulatedWorker, Simulation } from '../support/simulation.js'

/** The invariants of scheduler.ts hold whatever happens, in any order, as long as workers keep to their protocol. */

/** A connection, a stream of it, and another connection. */
const connection = makeClient({ isPaced: false })
const stream = streamOf(connection)
const clients = [makeClient({ isPaced: false }), connection, stream]

/** Makes the stream full, or readable again. */
function fill(simulation: Simulation, isFull: boolean): void {
  stream.isFull = isFull
  if (!isFull) simulation.scheduler.dispatch()
}

type Act = (simulation: Simulation, pick: number) => void

const worker = (simulation: Simulation, pick: number): SimulatedWorker | undefined =>
  [...simulation.workers.values()][pick % Math.max(1, simulation.workers.size)]

const acts: Record<string, [weight: number, act: Act]> = {
  submit: [
    8,
    (simulation, pick) =>
      simulation.submit({
        client: clients[pick % 3] ?? stream,
        function: pick % 4 === 0 ? 'g' : 'f',
        retries: pick % 2,
      }),
  ],
  ready: [3, (simulation, pick) => worker(simulation, pick)?.ready()],
  read: [8, (simulation, pick) => worker(simulation, pick)?.read()],
  step: [8, (simulation, pick) => worker(simulation, pick)?.step()],
  deliver: [8, (simulation, pick) => worker(simulation, pick)?.deliver()],
  prefetch: [6, (simulation) => simulation.scheduler.prefetch(simulation.now)],
  wait: [
    2,
    (simulation, pick) => {
      simulation.now += pick % 15
    },
  ],
  takeBack: [3, (simulation) => simulation.takeBackLate()],
  end: [2, (simulation, pick) => simulation.end(pick % Math.max(1, simulation.tasks.length))],
  fill: [2, (simulation, pick) => fill(simulation, pick % 2 === 1)],
  die: [1, (simulation, pick) => worker(simulation, pick)?.die(true)],
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

/** Plays the steps, and checks the invariants after each. */
function play(simulation: Simulation, done: readonly { kind: string; pick: number }[]): void {
  for (const { kind, pick } of done) {
    acts[kind]?.[1](simulation, pick)
    expect(simulation.check()).toEqual([])
  }
}

describe('the scheduler, whatever happens', () => {
  it('settles every task once, begins it once, and ends when it is closed', () => {
    fc.assert(
      fc.property(options, steps, steps, (facts, before, behind) => {
        const simulation = new Simulation({ ...facts, limits: UNLIMITED })
        fill(simulation, false)
        play(simulation, before)
        simulation.scheduler.close()
        play(simulation, behind)
        fill(simulation, false)
        simulation.settle()
        expect(simulation.check()).toEqual([])
        expect([simulation.settled.size, simulation.ended, simulation.workers.size]).toEqual([
          simulation.tasks.length,
          1,
          0,
        ])
      }),
      { numRuns: 300 },
    )
  })

  it('settles every task at once when it is terminated, and ignores later reports', () => {
    fc.assert(
      fc.property(options, steps, steps, (facts, before, behind) => {
        const simulation = new Simulation({ ...facts, limits: UNLIMITED })
        fill(simulation, false)
        play(simulation, before)
        simulation.scheduler.terminate()
        expect(simulation.settled.size).toBe(simulation.tasks.length)
        play(simulation, behind)
        simulation.settle()
        expect(simulation.check()).toEqual([])
        expect([simulation.settled.size, simulation.ended, simulation.workers.size]).toEqual([
          simulation.tasks.length,
          1,
          0,
        ])
      }),
      { numRuns: 100 },
    )
  })
})
