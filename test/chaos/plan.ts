import type { OwnedPoolOptions } from './farpool.js'
import type { Random } from './random.js'

/** One step of a lane. `count` is a number of items, `cost` is in microseconds, times are in milliseconds. */
export interface Step {
  readonly do: 'apply' | 'burst' | 'map' | 'imap' | 'bulk'
  readonly function: string
  readonly count: number
  /** The most that an item costs. Each item costs a random part of it. */
  readonly cost: number
  readonly retries: number
  readonly timeout?: number
  readonly abortAfter?: number
  readonly chunksize?: number
  readonly settle?: boolean
  readonly ordered?: boolean
  /** The consumer of an imap leaves the iteration after this many results. */
  readonly leaveAfter?: number
}

/** The plan for an owned pool: its options, its steps, and its end. */
export interface PoolPlan {
  readonly local: boolean
  readonly options: OwnedPoolOptions
  readonly steps: readonly Step[]
  /** `amid`: terminated while the steps run. */
  readonly end: 'join' | 'terminate' | 'amid'
  readonly amidAfter: number
}

const KINDS = {
  apply: 24,
  burst: 26,
  map: 14,
  imap: 14,
  timeout: 8,
  abort: 8,
  fail: 4,
  crash: 2,
  bulk: 2,
  chatter: 1,
} as const

/** The next step of a lane. It depends only on the seed. */
export function nextStep(random: Random): Step {
  const retries = random.chance(0.4) ? random.between(1, 2) : 0
  switch (random.weighted(KINDS)) {
    case 'apply':
      return { do: 'apply', function: 'work', count: 1, cost: random.between(0, 2_000), retries }
    case 'burst':
      return { do: 'burst', function: 'work', count: random.between(20, 600), cost: random.between(0, 300), retries }
    case 'map':
      return { ...many(random), do: 'map', settle: random.chance(0.5), retries }
    case 'imap': {
      const step = many(random)
      const leaves = random.chance(0.15) ? { leaveAfter: random.between(0, step.count) } : {}
      return { ...step, ...leaves, do: 'imap', ordered: random.chance(0.6), retries, chunksize: random.between(1, 16) }
    }
    case 'timeout':
      return hurried(random, { timeout: random.between(5, 150) }, retries)
    case 'abort':
      return hurried(random, { abortAfter: random.between(0, 60) }, retries)
    case 'fail':
      return random.chance(0.5)
        ? { do: 'burst', function: 'fail', count: random.between(1, 20), cost: 0, retries }
        : { ...many(random), do: 'map', function: 'mixed', settle: random.chance(0.7), retries }
    case 'crash':
      return { do: 'apply', function: 'crash', count: 1, cost: 0, retries }
    case 'bulk':
      return { do: 'bulk', function: 'bulk', count: 1, cost: 2 ** random.between(8, 20), retries }
    case 'chatter':
      return { do: 'apply', function: 'chatter', count: 1, cost: random.between(10, 4_000), retries }
  }
}

/** A step whose calls have a result as long as a server is there. */
export function nextPlainStep(random: Random): Step {
  const step = nextStep(random)
  const isPlain =
    (step.function === 'work' && step.timeout === undefined && step.abortAfter === undefined) || step.do === 'bulk'
  return isPlain && step.leaveAfter === undefined ? step : nextPlainStep(random)
}

export function nextPool(random: Random): PoolPlan {
  const initializer = random.chance(0.3)
  const refuses = initializer && random.chance(0.2)
  const value = random.between(1, 1_000)
  // Not 1: where each task costs the start of a worker, a thousand of them take longer than a client may.
  const recycled = random.chance(0.4) ? { maxtasksperchild: random.between(5, 30) } : {}
  const initialized = initializer ? { initializer: refuses ? 'refuse' : 'prepare', initargs: [value] } : {}
  const prepared: Step = { do: 'burst', function: 'prepared', count: 12, cost: value, retries: refuses ? 0 : 1 }
  const steps = Array.from({ length: random.between(1, 5) }, () => nextStep(random))
  return {
    local: !refuses && random.chance(0.15),
    options: { processes: random.between(1, 2), ...recycled, ...initialized },
    steps: refuses ? [prepared] : initializer ? [prepared, ...steps] : steps,
    end: random.pick(['join', 'terminate', 'amid']),
    amidAfter: random.between(0, 400),
  }
}

const many = (random: Random) => ({
  function: 'work',
  count: random.chance(0.1) ? random.between(1_000, 4_000) : random.between(1, 300),
  cost: random.between(0, 200),
  ...(random.chance(0.5) ? { chunksize: random.between(1, 40) } : {}),
})

/** A step with a timeout or an abort. Some calls end in time, some do not, and some ignore their signal. */
function hurried(random: Random, hurry: { timeout?: number; abortAfter?: number }, retries: number): Step {
  const ignoresSignal = random.chance(0.15)
  const step = {
    function: ignoresSignal ? 'work' : 'nap',
    count: ignoresSignal ? 1 : random.between(1, 30),
    cost: ignoresSignal ? random.between(1_000, 900_000) : random.between(1_000, 120_000),
    retries,
    ...hurry,
  }
  if (random.chance(0.2)) return { ...step, do: 'map', settle: random.chance(0.5) }
  return { ...step, do: random.chance(0.1) && hurry.abortAfter !== undefined ? 'imap' : 'burst', ordered: true }
}
