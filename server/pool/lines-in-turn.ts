/** Entries that wait in line, by owner: owners take turns. */
export class LinesInTurn<Entry> {
  /** The owner whose turn it is first. Each entry is one of its own, also where the same waits twice. */
  readonly #lines = new Map<unknown, Set<{ readonly entry: Entry }>>()

  get isEmpty(): boolean {
    return this.#lines.size === 0
  }

  /** Behind all others of this owner. Returns how to leave the line before its turn. */
  enter(owner: unknown, entry: Entry): () => void {
    const place = { entry }
    const line = this.#lines.get(owner) ?? new Set()
    this.#lines.set(owner, line)
    line.add(place)
    return () => {
      line.delete(place)
      if (line.size === 0 && this.#lines.get(owner) === line) this.#lines.delete(owner)
    }
  }

  /** Takes the first of the owner whose turn it is, who then stands behind all others; undefined where nobody waits. */
  take(): Entry | undefined {
    const [first] = this.#lines
    if (!first) return undefined
    const [owner, line] = first
    const [place] = line
    this.#lines.delete(owner)
    if (place) line.delete(place)
    if (line.size > 0) this.#lines.set(owner, line)
    return place?.entry
  }
}
