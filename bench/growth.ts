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

/** The curves grow together, a point of each in every turn. */
export async function measureGrowth(turns: number): Promise<Curve[]> {
  const points = SWEEPS.flatMap(({ id, xs }) => xs.map(({ x }) => ({ id, x, ys: [] as number[] })))
  const peer = new Peer('farpool growth')
  try {
    await peer.ready()
    for (let turn = -1; turn < turns; turn++)
      for (const { id, x, ys } of points) {
        const { y = Number.NaN } = await peer.run(id, x)
        if (turn >= 0) ys.push(y)
      }
  } finally {
    await peer.end()
  }
  return SWEEPS.map(({ xs, ...sweep }) => ({
    ...sweep,
    points: xs.map((point) => ({
      ...point,
      y: median(points.find(({ id, x }) => id === sweep.id && x === point.x)?.ys ?? []),
    })),
  }))
}
