/** So long before its time a member has its turn all the same: tasks of microseconds need not be compared one by one. */
const TURN_MS = 1

/**
 * What a member's tasks have taken it gives back: the others have as much each before its next turn, but no more than
 * so many of them. Where there are hundreds, each with a little, nobody waits until all of them have had that.
 */
const MAX_SHARERS = 4

/**
 * Whoever has nothing waiting for a moment, because each of its tasks comes when one before has ended, still lets the others
 * go first; but what it has run long ago, alone, is no reason to wait for ever.
 */
const MAX_DEBT_MS = 1_000

/** Somebody who takes turns with others: for time, not for tasks. */
export interface Member {
  /** By the clock of its round: before it, others go first. */
  nextTurn: number
  /** It has something that can begin. */
  readonly canBegin: boolean
}

/** Those who take turns, and their clock, in milliseconds: it goes on when nobody has a turn before, and faster where they are many. */
export class Round<M extends Member> {
  #now = 0
  /** The one that is next first. */
  readonly #members = new Set<M>()

  get size(): number {
    return this.#members.size
  }

  [Symbol.iterator](): Iterator<M> {
    return this.#members.values()
  }

  /** One that has something waiting again. */
  join(member: M): void {
    member.nextTurn = Math.min(member.nextTurn, this.#now + MAX_DEBT_MS)
    this.#members.add(member)
  }

  leave(member: M): void {
    this.#members.delete(member)
  }

  /**
   * Whose turn it is; the same until somebody joins, leaves, moves or pays. Undefined where none can begin anything.
   * @param also one that can, whatever it says of itself.
   */
  next(also?: M): M | undefined {
    return this.#due(also) ?? this.#soonest(also)
  }

  /** It has had its turn: the others that have one too go first. */
  moveBack(member: M): void {
    if (this.#members.size > 1 && this.#members.delete(member)) this.#members.add(member)
  }

  /** A task of one, also of one that has left, has taken so long. */
  paid(member: M, ms: number): void {
    member.nextTurn = Math.max(member.nextTurn, this.#now) + ms
    if (this.#members.size > MAX_SHARERS) this.#now += ms / MAX_SHARERS
  }

  #due(also: M | undefined): M | undefined {
    for (const member of this.#members) {
      if (member.nextTurn <= this.#now + TURN_MS && (member === also || member.canBegin)) return member
    }
    return undefined
  }

  /** Nobody has a turn before: who has the next one has it now. */
  #soonest(also: M | undefined): M | undefined {
    let soonest = Number.POSITIVE_INFINITY
    for (const member of this.#members)
      if (member === also || member.canBegin) soonest = Math.min(soonest, member.nextTurn)
    if (soonest === Number.POSITIVE_INFINITY) return undefined
    this.#now = soonest
    return this.#due(also)
  }
}
