import { printableLine } from '../wire/printable.js'

/** A progress bar. It draws only if its output is a terminal, at most ten times a second. */
export class Progress {
  readonly #started = performance.now()
  #drawn = Number.NEGATIVE_INFINITY
  #done = 0

  constructor(
    private readonly label: string,
    private readonly out: NodeJS.WriteStream = process.stderr,
  ) {}

  /** @param fraction the part that is done, from 0 to 1; undefined if the total is unknown. */
  update(done: number, fraction: number | undefined): void {
    this.#done = done
    const now = performance.now()
    if (!this.out.isTTY || now - this.#drawn < 100) return
    this.#drawn = now
    this.#draw(fraction)
  }

  /** Everything is done: draws the final state and ends the line. */
  complete(): void {
    if (!this.out.isTTY) return
    this.#draw(1)
    this.out.write('\n')
  }

  /** Ends the line, so that a message can follow. */
  stop(): void {
    if (this.#drawn !== Number.NEGATIVE_INFINITY) this.out.write('\n')
  }

  #draw(fraction: number | undefined): void {
    const done = this.#done
    const seconds = (performance.now() - this.#started) / 1000
    const rate = seconds > 0 ? `${(done / seconds).toFixed(done / seconds < 10 ? 1 : 0)}/s` : ''
    const width = 24
    const filled = Math.round(Math.min(1, fraction ?? 0) * width)
    const bar =
      fraction === undefined ? '' : `${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${Math.round(fraction * 100)}% `
    this.out.write(`\r\x1b[K${printableLine(this.label)} ${bar}${done} ${rate}`)
  }
}
