import { type Run, ToWorker } from '../../proto/gen/farpool/worker/v1/worker.js'
import { encodePayload } from '../../wire/values/payload.js'
import { Random } from '../chaos/random.js'
import { PLAIN_RUN } from '../support/plain-run.js'
import { LARGE_NUMBERS, mutateBytes } from './bytes.js'
import { mutateMessage } from './fields.js'
import { foreignTo } from './messages.js'
import { chunk, object, payload } from './values.js'

/** The bytes that a server sends to a worker in a case. */
export interface WorkerCommands {
  readonly bytes: Buffer
  /** True if the bytes are whole frames: the worker can read a further frame behind them. */
  readonly isWhole: boolean
}

const SALT = 0x6f72_6465

type Kind = NonNullable<ToWorker['kind']>

export function workerCommands(seed: number, number: number): WorkerCommands {
  const random = new Random(seed, SALT, number)
  const isWhole = !random.chance(0.05)
  const frames = Array.from({ length: random.between(1, 3) }, () => {
    const message = Buffer.from(ToWorker.encode({ kind: kindOf(random) }).finish())
    return framed(random.chance(0.3) ? message : mutateMessage(message, random, foreignTo(random)))
  })
  const bytes = Buffer.concat(frames)
  return { bytes: isWhole ? bytes : mutateBytes(bytes, random), isWhole }
}

/** Puts a message into a frame. */
export function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(4 + message.length)
  frame.writeUInt32BE(message.length)
  frame.set(message, 4)
  return frame
}

/** A valid `run` command, which the worker has to answer. */
export function addCommand(task: number): Buffer {
  const args = [2, 3].map((value) => encodePayload(value, 'json'))
  const run = { ...PLAIN, function: 'add', tasks: [{ task, attempt: 1, args, chunk: undefined }] }
  return framed(ToWorker.encode({ kind: { $case: 'run', value: run } }).finish())
}

/** The `init` command for a module. */
export const initCommand = (module: string): Buffer => {
  const value = { modules: [module], initializer: '', initargs: [], stacks: true, maxRssBytes: 0, maxResultBytes: 0 }
  return framed(ToWorker.encode({ kind: { $case: 'init', value } }).finish())
}

const PLAIN: Run = { ...PLAIN_RUN, function: 'identity' }

const small = (random: Random): number => random.between(0, 20)
const large = (random: Random): number => Math.min(Number.MAX_SAFE_INTEGER, Number(random.pick(LARGE_NUMBERS)))

function kindOf(random: Random): Kind {
  switch (random.weighted({ run: 12, abort: 3, init: 0.3, stop: 0.2 })) {
    case 'run':
      return { $case: 'run', value: run(random) }
    case 'abort':
      return {
        $case: 'abort',
        value: { task: random.pick([small, large])(random), reason: random.pick(['', 'CANCELLED', 'x']) },
      }
    case 'init': {
      const modules = random.pick([[], ['/none.js'], ['node:fs'], ['data:text/javascript,throw 1']])
      return {
        $case: 'init',
        value: {
          modules,
          initializer: 'x',
          initargs: [payload(random)],
          stacks: true,
          maxRssBytes: 1,
          maxResultBytes: 1,
        },
      }
    }
    case 'stop':
      return { $case: 'stop', value: {} }
  }
}

function run(random: Random): Run {
  const tasks = Array.from({ length: random.between(0, 4) }, () => ({
    task: random.pick([small, large])(random),
    attempt: random.between(0, 2),
    args: Array.from({ length: random.between(0, 2) }, () => payload(random)),
    chunk: random.chance(0.4) ? chunk(random) : undefined,
  }))
  return {
    function: random.pick(['identity', 'add', 'collect', 'fail', 'nap', '', '__proto__']),
    args: random.chance(0.7) ? [] : [payload(random)],
    kwargs: random.chance(0.8) ? undefined : object(random),
    spread: random.chance(0.2),
    replyKind: random.pick([0, 1, 2, 3, 4, -1]),
    failFast: random.chance(0.2),
    allowPartial: random.chance(0.5),
    beginBy: random.pick([0, 0, 1, -1, 1e300, Number.NaN, Number.POSITIVE_INFINITY]),
    tasks,
  }
}
