import { Broken, type Target, type TargetName } from './target.js'

export interface Played {
  readonly target: TargetName
  readonly cases: number
  readonly seconds: number
  readonly answers: Record<string, number>
  readonly memory: Target['memory']
}

/** A broken rule, and the case that broke it. */
export interface Finding {
  readonly target: TargetName
  /** The first and last case. They are equal if one case alone breaks the rule; else the range holds all suspects. */
  readonly from: number
  readonly to: number
  readonly what: string
  /** The bytes of case `to`, in hexadecimal digits. */
  readonly hex: string
}

export interface Range {
  readonly from: number
  readonly to: number
}

/** The number of cases that count as suspects although they had ended before the rule was found broken. */
const SUSPECTS = 64

/** Plays cases of a target, many at a time, until all are played, a rule is broken, or `over` aborts. */
export async function fuzz(
  name: TargetName,
  { from, to }: Range,
  start: () => Promise<Target>,
  over: AbortSignal,
): Promise<{ played: Played; finding: Finding | undefined }> {
  await using target = await start()
  const began = performance.now()
  const run = new Run(target, from, to, over)
  const broken = await run.play()
  const played = {
    target: name,
    cases: run.cases,
    seconds: (run.until - began) / 1_000,
    answers: run.answers,
    memory: target.memory,
  }
  if (!broken) return { played, finding: undefined }
  const { what, number } = broken
  if (number !== undefined) return { played, finding: { target: name, ...alone(target, number), what } }
  const { suspects } = run
  const culprit = await culpritOf(suspects, start)
  const last = Math.max(...suspects)
  const those = culprit ?? { ...alone(target, last), from: Math.min(...suspects) }
  return { played, finding: { target: name, ...those, what } }
}

type Culprit = Pick<Finding, 'from' | 'to' | 'hex'>

const alone = (target: Target, number: number): Culprit => ({
  from: number,
  to: number,
  hex: target.bytes(number).toString('hex'),
})

/** Finds the case that breaks a rule when it is played alone. Tries the latest case first. */
async function culpritOf(suspects: readonly number[], start: () => Promise<Target>): Promise<Culprit | undefined> {
  await using target = await start()
  for (const number of [...suspects].reverse()) {
    const broken = await new Run(target, number, number + 1).play(false)
    if (broken) return alone(target, number)
  }
  return undefined
}

class Run {
  cases = 0
  /** The time when the last case had ended. */
  until = 0
  readonly answers: Record<string, number> = {}
  readonly #playing = new Set<number>()
  readonly #ended: number[] = []
  #next: number
  #broken: { number: number | undefined; what: string } | undefined

  constructor(
    private readonly target: Target,
    from: number,
    private readonly to: number,
    private readonly over?: AbortSignal,
  ) {
    this.#next = from
  }

  /** The cases under way, and the latest ones that ended before. */
  get suspects(): number[] {
    return [...this.#ended, ...this.#playing]
  }

  /** @param isLast after the cases, also waits until the target is as it was at the start. */
  async play(isLast = true): Promise<{ number: number | undefined; what: string } | undefined> {
    const lanes = Math.min(this.target.lanes, this.to - this.#next)
    await Promise.all(Array.from({ length: lanes }, () => this.#lane()))
    this.until = performance.now()
    if (!this.#isOver) await this.#ends(undefined, async () => (isLast ? this.target.rest() : this.target.prove()))
    return this.#broken
  }

  get #isOver(): boolean {
    return this.#broken !== undefined || this.over?.aborted === true
  }

  async #lane(): Promise<void> {
    while (this.#next < this.to && !this.#isOver) {
      const number = this.#next++
      this.#playing.add(number)
      await this.#ends(number, async () => {
        const answer = await this.target.play(number)
        this.answers[answer] = (this.answers[answer] ?? 0) + 1
      })
      await this.#ends(undefined, async () => this.target.check())
      // The case stays a suspect if a rule was broken meanwhile.
      if (this.#broken) return
      this.#playing.delete(number)
      this.cases++
      this.#ended.push(number)
      if (this.#ended.length > SUSPECTS) this.#ended.shift()
    }
  }

  /** Every thrown error counts as a broken rule. */
  async #ends(number: number | undefined, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      const what = error instanceof Broken ? error.message : String((error as Error).stack ?? error)
      this.#broken ??= { number, what }
    }
  }
}
