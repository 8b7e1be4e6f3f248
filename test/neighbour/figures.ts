import { median } from '../chaos/measure.js'
import type { Measured } from './messages.js'

/** The measurements of one kind of attack. The lists have one entry for each pair. */
export interface KindFigures {
  readonly kind: string
  readonly calm: Episode[]
  readonly hostile: Episode[]
  /** Beside the control process. */
  readonly control: Episode[]
}

export interface Episode extends Measured {
  /** The CPUs that the hostile process, the server and its workers used. */
  readonly hostileCpu: number
  readonly serverCpu: number
  readonly workersCpu: number
  readonly done: Readonly<Record<string, number>>
}

export interface Summary {
  readonly kind: string
  readonly calls: number
  readonly calm: Times
  readonly hostile: Times
  /** The p99 beside the hostile client divided by the p99 without it; the median of the pairs; NaN if not measured. */
  readonly ratio: number
  readonly tinyRatio: number
  readonly controlRatio: number
  readonly hostileCpu: number
  readonly serverCpu: number
  readonly workersCpu: number
  readonly done: Readonly<Record<string, number>>
  readonly failures: Readonly<Record<string, number>>
}

export interface Times {
  readonly p50: number
  readonly p99: number
  readonly worst: number
}

export function summaryOf({ kind, calm, hostile, control }: KindFigures): Summary {
  const ratio = (of: readonly Episode[], to: readonly Episode[], p99: (episode: Episode) => number): number =>
    median(of.flatMap((episode, pair) => (to[pair] ? [p99(episode) / p99(to[pair])] : [])))
  const p99OfAll = (episode: Episode) => quantile(timesOf(episode), 0.99)
  const p99OfTiny = ({ tiny }: Episode) => quantile(tiny, 0.99)
  const mean = (of: (episode: Episode) => number) => hostile.reduce((sum, one) => sum + of(one), 0) / hostile.length
  return {
    kind,
    calls: hostile.flatMap(timesOf).length,
    calm: summed(calm),
    hostile: summed(hostile),
    ratio: ratio(hostile, calm, p99OfAll),
    tinyRatio: ratio(hostile, calm, p99OfTiny),
    controlRatio: ratio(hostile, control, p99OfAll),
    hostileCpu: mean((episode) => episode.hostileCpu),
    serverCpu: mean((episode) => episode.serverCpu),
    workersCpu: mean((episode) => episode.workersCpu),
    done: added(hostile.map(({ done }) => done)),
    failures: added([...calm, ...hostile, ...control].map(({ failures }) => failures)),
  }
}

const timesOf = ({ tiny, other }: Measured): number[] => [...tiny, ...other]

function summed(episodes: readonly Episode[]): Times {
  const times = episodes.flatMap(timesOf)
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), worst: quantile(times, 1) }
}

/** The CPUs that an attack cost the server and its workers. */
export const costOf = (hostile: Episode, calm: Episode): number =>
  Math.max(0, hostile.serverCpu - calm.serverCpu) + Math.max(0, hostile.workersCpu - calm.workersCpu)

/** The quantile of the times: `part` of them (0 to 1) are not longer. */
export function quantile(times: readonly number[], part: number): number {
  const sorted = [...times].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN
}

function added(counts: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sum: Record<string, number> = {}
  for (const count of counts) for (const [name, number] of Object.entries(count)) sum[name] = (sum[name] ?? 0) + number
  return sum
}
