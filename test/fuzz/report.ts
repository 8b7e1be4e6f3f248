import type { Played } from './fuzz.js'

const mib = (kib: number): string => String(Math.round(kib / 1024))

/** The number of each answer, the most frequent first. */
const answers = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .sort(([, a], [, b]) => b - a)
    .map(([answer, count]) => `${count} × ${answer || 'nothing'}`)
    .join(', ')

/** The report as text. */
export function table(played: readonly Played[]): string {
  const head = ['target', 'cases', 'cases/s', 'seconds', 'memory, MiB']
  const rows = played.map(({ target, cases, seconds, memory: { fromKib, mostKib } }) => [
    target,
    String(cases),
    (cases / seconds).toFixed(0),
    seconds.toFixed(1),
    `${mib(fromKib)}, at most ${mib(mostKib)}`,
  ])
  const lines = [head, ...rows].map((row) =>
    row
      .map((cell, at) => cell.padEnd(at === 0 ? 10 : 9))
      .join(' ')
      .trimEnd(),
  )
  return [...lines, '', ...played.map(({ target, answers: counts }) => `${target}: ${answers(counts)}`)].join('\n')
}
