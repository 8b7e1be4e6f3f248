import { FromWorker, Stream } from '../../proto/gen/farpool/worker/v1/worker.js'
import type { Status } from '../../proto/gen/google/rpc/status.js'
import { Random } from '../chaos/random.js'
import { LARGE_NUMBERS, mutateBytes } from './bytes.js'
import { mutateMessage } from './fields.js'
import { foreignTo } from './messages.js'
import { payload } from './values.js'

const SALT = 0x776f_7264

type Kind = NonNullable<FromWorker['kind']>

/** The frames that a worker sends in a case while it runs the task: unexpected reports, and bytes that are no report. */
export function workerReports(seed: number, number: number, task: number): Buffer {
  const random = new Random(seed, SALT, number)
  const frames = Array.from({ length: random.between(1, 3) }, () => report(random, task))
  return Buffer.concat(frames)
}

function report(random: Random, task: number): Buffer {
  const message = Buffer.from(FromWorker.encode({ kind: kindOf(random, task) }).finish())
  // An unreadable report makes the server kill the worker, and a new process takes time: mutate less than half.
  const body = random.chance(0.6) ? message : mutateMessage(message, random, foreignTo(random))
  const frame = Buffer.alloc(4 + body.length)
  frame.writeUInt32BE(body.length)
  body.copy(frame, 4)
  return random.chance(0.03) ? mutateBytes(frame, random) : frame
}

function kindOf(random: Random, task: number): Kind {
  const id = (): number => random.pick([() => task, () => task + random.between(-3, 3), () => number(random)])()
  const failures = () =>
    Array.from({ length: random.between(0, 2) }, () => ({ item: number32(random), status: status(random) }))
  return random.pick<() => Kind>([
    () => ({ $case: 'started', value: { task: id() } }),
    () => ({
      $case: 'done',
      value: {
        task: id(),
        payload: random.chance(0.7) ? payload(random) : undefined,
        failures: failures(),
        status: random.chance(0.3) ? status(random) : undefined,
        runMs: random.pick([0, 1, -1, 1e30, Number.NaN, Number.POSITIVE_INFINITY]),
      },
    }),
    () => ({ $case: 'returned', value: { tasks: [id(), id(), id()] } }),
    () => ({ $case: 'progress', value: { task: id(), items: number(random) } }),
    () => ({
      $case: 'log',
      value: {
        task: id(),
        stream: random.pick<Stream>([Stream.STREAM_STDERR, Stream.STREAM_UNSPECIFIED]),
        text: 'printed\n',
      },
    }),
    () => ({ $case: 'ready', value: { functions: [], runtime: 'x' } }),
    () =>
      random.chance(0.2)
        ? { $case: 'retire', value: { rssBytes: number(random) } }
        : { $case: 'started', value: { task: id() } },
    () =>
      random.chance(0.2)
        ? { $case: 'initFailed', value: { status: status(random) } }
        : { $case: 'progress', value: { task: id(), items: 0 } },
  ])()
}

const number = (random: Random): number => Math.min(Number.MAX_SAFE_INTEGER, Number(random.pick(LARGE_NUMBERS)))
const number32 = (random: Random): number => Number(random.pick(LARGE_NUMBERS) & 0xffff_ffffn)

const ERROR_INFO = 'type.googleapis.com/google.rpc.ErrorInfo'

function status(random: Random): Status | undefined {
  if (random.chance(0.2)) return undefined
  const details = random.chance(0.5) ? [] : [{ typeUrl: random.pick([ERROR_INFO, 'x', '']), value: payload(random) }]
  return {
    code: random.pick([0, 2, 13, 16, 99, -1]),
    message: random.pick(['', 'why', '\n', 'x'.repeat(20_000)]),
    details,
  }
}
