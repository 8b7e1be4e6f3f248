import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Figures } from './peers/peer.js'
import { PEERS } from './rows.js'

const pathOf = (file: string) =>
  fileURLToPath(new URL(file.endsWith('.py') ? `../peers/${file}` : `peers/${file}`, import.meta.url))

const start = (program: string, args: readonly string[]) => spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })

/** The process of a peer. It runs one row after another. */
export class Peer {
  readonly #child: ReturnType<typeof start>
  readonly #answers: AsyncIterator<string>

  constructor(readonly name: string) {
    const [command = '', file = '', ...args] = PEERS[name] ?? []
    const program = command === 'node' ? process.execPath : command
    this.#child = start(program, [pathOf(file), ...args])
    this.#child.stdin.on('error', () => {})
    this.#child.on('error', () => {})
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
  }

  /** Resolves with undefined if the peer cannot run on this machine. */
  async run(row: string, n: number): Promise<Figures | undefined> {
    this.#child.stdin.write(`${JSON.stringify({ row, n })}\n`)
    const { value, done } = await this.#answers.next()
    return done ? undefined : JSON.parse(value)
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined) return
    this.#child.stdin.end()
    await once(this.#child, 'exit')
  }
}

/** The number of turns before the measurement, for the just-in-time compilers. */
const WARM_UP = 2

/** Runs the peers of a row in turns, so that a disturbance of the machine affects all. Returns the figures of each turn, by peer. */
export async function inTurns(
  peers: readonly string[],
  row: string,
  counts: (peer: string) => number,
  turns: number,
): Promise<Map<string, Figures[]>> {
  const running = peers.map((name) => new Peer(name))
  const figures = new Map<string, Figures[]>(peers.map((name) => [name, []]))
  try {
    for (let turn = -WARM_UP; turn < turns; turn++) {
      for (const peer of running) {
        const measured = await peer.run(row, counts(peer.name))
        if (measured && turn >= 0) figures.get(peer.name)?.push(measured)
      }
    }
  } finally {
    await Promise.all(running.map((peer) => peer.end()))
  }
  return figures
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? Number(sorted[middle]) : (Number(sorted[middle - 1]) + Number(sorted[middle])) / 2
}
