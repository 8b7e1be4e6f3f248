/** A line that a worker printed, and the task that printed it (0 where none was running). */
export interface Line {
  readonly stream: 'stdout' | 'stderr'
  readonly task: number
  readonly text: string
}

/** A longer line is handed on in pieces, so that one that never ends takes no memory. */
const MAX_LINE = 16 * 1024

/** Cuts text into lines as it comes in pieces. A change of the task ends a line. */
export class LineSplitter {
  #rest = ''
  #task = 0

  constructor(private readonly stream: Line['stream']) {}

  push(text: string, task: number): Line[] {
    const lines = task === this.#task ? [] : this.flush()
    this.#task = task
    const pieces = (this.#rest + text).split('\n')
    this.#rest = pieces.pop() ?? ''
    for (const piece of pieces) lines.push(...this.#cut(piece))
    if (this.#rest.length > MAX_LINE) {
      const cut = this.#cut(this.#rest)
      this.#rest = cut.pop()?.text ?? ''
      lines.push(...cut)
    }
    return lines
  }

  /** The line that has not been ended. */
  flush(): Line[] {
    const rest = this.#rest
    this.#rest = ''
    return rest === '' ? [] : this.#cut(rest)
  }

  #cut(line: string): Line[] {
    const pieces: Line[] = []
    for (let at = 0; at === 0 || at < line.length; at += MAX_LINE) {
      pieces.push({ stream: this.stream, task: this.#task, text: line.slice(at, at + MAX_LINE).replace(/\r$/, '') })
    }
    return pieces
  }
}
