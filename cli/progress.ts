/** A progress bar on a terminal; nothing where standard error is none. */
export class Progress {
  readonly #started = performance.now()
  #drawn = Number.NEGATIVE_INFINITY

  constructor(
    private readonly label: string,
    private readonly out: NodeJS.WriteStream = process.stderr,
  ) {}

  /** @param fraction from 0 to 1; undefined where the end is not known. */
  update(done: number, fraction: number | undefined): void {
    const now = performance.now()
    if (!this.out.isTTY || now - this.#drawn < 100) return
    this.#drawn = now
    this.#draw(done, fraction)
  }

  /** Leaves the last state on a line of its own. */
  end(done: number): void {
    if (!this.out.isTTY) return
    this.#draw(done, 1)
    this.out.write('\n')
  }

  #draw(done: number, fraction: number | undefined): void {
    const seconds = (performance.now() - this.#started) / 1000
    const rate = seconds > 0 ? `${(done / seconds).toFixed(done / seconds < 10 ? 1 : 0)}/s` : ''
    const width = 24
    const filled = Math.round(Math.min(1, fraction ?? 0) * width)
    const bar =
      fraction === undefined ? '' : `${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${Math.round(fraction * 100)}% `
    this.out.write(`\r\x1b[K${this.label} ${bar}${done} ${rate}`)
  }
}
