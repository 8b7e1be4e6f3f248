import { median, Peer } from './run.js'

/** The cost of one item as one quantity grows. Ideally it does not change. */
export interface Curve {
  readonly id: string
  readonly title: string
  readonly unit: string
  readonly points: readonly { readonly x: number; readonly label: string; readonly y: number }[]
}

interface Sweep {
  readonly id: string
  readonly title: string
  readonly unit: string
  readonly xs: readonly { readonly x: number; readonly label: string }[]
}

const size = (bytes: number) =>
  bytes < 1024 ? `${bytes} B` : bytes < 1024 ** 2 ? `${bytes / 1024} KiB` : `${bytes / 1024 ** 2} MiB`
const count = (n: number) => (n < 1000 ? `${n}` : n < 1e6 ? `${n / 1000}k` : `${n / 1e6}M`)
const xs = (values: readonly number[], label: (x: number) => string) => values.map((x) => ({ x, label: label(x) }))

export const SWEEPS: readonly Sweep[] = [
  { id: 'queued', title: 'tasks queued at once', unit: 'µs per task', xs: xs([1e3, 1e4, 1e5, 1e6], count) },
  { id: 'clients', title: 'clients, each with 2,000 calls', unit: 'µs per task', xs: xs([1, 4, 16, 64], count) },
  { id: 'processes', title: 'processes in the pool', unit: 'µs per task', xs: xs([1, 2, 4, 8], count) },
  {
    id: 'payload',
    title: 'size of a value, there and back',
    unit: 'µs per KiB',
    xs: xs([10, 1024, 32 * 1024, 1024 ** 2, 16 * 1024 ** 2, 64 * 1024 ** 2], size),
  },
]

export async function measureGrowth(turns: number, largest: number): Promise<Curve[]> {
  const curves: Curve[] = []
  const peer = new Peer('farpool growth')
  try {
    for (const { xs: all, ...sweep } of SWEEPS) {
      const points = []
      for (const { x, label } of all.slice(0, largest)) {
        await peer.run(sweep.id, x)
        const ys: number[] = []
        for (let turn = 0; turn < turns; turn++) ys.push((await peer.run(sweep.id, x))?.['y'] ?? Number.NaN)
        points.push({ x, label, y: median(ys) })
      }
      curves.push({ ...sweep, points })
      process.stderr.write(
        `  ${sweep.title}: ${points.map(({ label, y }) => `${label} ${y.toPrecision(3)}`).join(', ')}\n`,
      )
    }
  } finally {
    await peer.end()
  }
  return curves
}
