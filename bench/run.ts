import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { cpuTimes, untilIdle } from './cpu.js'
import type { Figures } from './peers/peer.js'
import { VENV_PYTHON } from './python.js'
import { PEERS, type Row } from './rows.js'

const PROGRAMS: Readonly<Record<string, string>> = { node: process.execPath, venv: VENV_PYTHON }

const pathOf = (file: string) =>
  fileURLToPath(new URL(file.endsWith('.py') ? `../peers/${file}` : `peers/${file}`, import.meta.url))

const start = (program: string, args: readonly string[]) => spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })

/** The process of a peer. It runs one row after another. */
export class Peer {
  readonly #child: ReturnType<typeof start>
  readonly #answers: AsyncIterator<string>

  constructor(readonly name: string) {
    const [program = '', file = '', ...args] = PEERS[name] ?? []
    this.#child = start(PROGRAMS[program] ?? program, [pathOf(file), ...args])
    this.#child.stdin.on('error', () => {})
    this.#child.on('error', () => {})
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
  }

  /** Resolves with true when the peer has opened its pool, with false if it cannot run on this machine. */
  async ready(): Promise<boolean> {
    return (await this.#ask('ready', 0)) !== undefined
  }

  /** Resolves when all its processes have started. */
  idle(): Promise<void> {
    return untilIdle(this.#child.pid ?? 0)
  }

  /** Returns the peer's own figures and the CPU time of its processes. */
  async run(row: string, n: number): Promise<Figures> {
    const pid = this.#child.pid ?? 0
    const before = cpuTimes(pid)
    const began = performance.now()
    const figures = await this.#ask(row, n)
    const elapsed = (performance.now() - began) * 1000
    const after = cpuTimes(pid)
    if (!figures) throw new Error(`the peer ${this.name} has ended while it ran the row ${row}`)
    if (!before || !after) return figures
    const caller = after.caller - before.caller
    const server = after.server - before.server
    const workers = after.workers - before.workers
    return {
      ...figures,
      'cpu caller': caller / n,
      'cpu server': server / n,
      'cpu workers': workers / n,
      'cpu all': (caller + server + workers) / n,
      'server busy': server / elapsed,
    }
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined) return
    this.#child.stdin.end()
    await once(this.#child, 'exit')
  }

  async #ask(row: string, n: number): Promise<Figures | undefined> {
    this.#child.stdin.write(`${JSON.stringify({ row, n })}\n`)
    const { value, done } = await this.#answers.next()
    return done ? undefined : JSON.parse(value)
  }
}

/** The number of turns before the measurement, for the just-in-time compilers. */
const WARM_UP_TURNS = 2
/** The number of lone calls before it, in rows of lone calls and of work. */
const WARM_UP_CALLS = 10_000

export interface Plan {
  readonly peers: readonly string[]
  readonly turns: number
  /** The number of calls or items of one run. */
  readonly countOf: (peer: string) => number
}

/** Runs the peers of a row in turns, so that a disturbance of the machine affects all. Returns the figures of each turn, by peer. */
export async function inTurns(row: Row, plan: Plan): Promise<Map<string, Figures[]>> {
  const figures = new Map<string, Figures[]>(plan.peers.map((name) => [name, []]))
  const run = async (peer: Peer) => peer.run(row.run ?? row.id, plan.countOf(peer.name))
  if (row.warmUp === 'none') {
    for (let turn = 0; turn < plan.turns; turn++)
      for (const name of plan.peers)
        await withPeers([name], async ([peer]) => {
          await peer?.idle()
          if (peer) figures.get(name)?.push(await run(peer))
        })
  } else {
    await withPeers(plan.peers, async (peers) => {
      for (const peer of peers) await warmUp(row, peer, plan, run)
      for (let turn = 0; turn < plan.turns; turn++)
        for (const peer of peers) figures.get(peer.name)?.push(await run(peer))
    })
  }
  return figures
}

/** Slow peers, which make fewer calls in a turn, make fewer here too. */
async function warmUp(row: Row, peer: Peer, { turns, countOf }: Plan, run: (peer: Peer) => unknown): Promise<void> {
  const share = countOf(peer.name) / row.n
  if (row.warmUp === 'calls') await peer.run('sequence', Math.ceil(WARM_UP_CALLS * Math.min(1, share)))
  else for (let turn = 0; turn < Math.min(WARM_UP_TURNS, turns); turn++) await run(peer)
}

/** Gives `body` those of the peers that can run on this machine. */
async function withPeers(names: readonly string[], body: (peers: readonly Peer[]) => Promise<void>): Promise<void> {
  const started = names.map((name) => new Peer(name))
  try {
    const ready: Peer[] = []
    for (const peer of started) {
      if (await peer.ready()) ready.push(peer)
      else process.stderr.write(`  ${peer.name} cannot run here\n`)
    }
    await body(ready)
  } finally {
    await Promise.all(started.map((peer) => peer.end()))
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? Number(sorted[middle]) : (Number(sorted[middle - 1]) + Number(sorted[middle])) / 2
}
