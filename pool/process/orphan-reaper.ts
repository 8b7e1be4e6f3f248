import type { Writable } from 'node:stream'

/**
 * The guard's program: it reads which worker has come and which has gone, and which file the server listens on; when
 * that ends, because the server has ended, it kills the workers that are left and removes the file, if it is still the
 * same one. So a server that is killed leaves no worker behind, also none that is busy in a loop and cannot see that
 * its socket has closed.
 */
export const GUARD = `
pids=' '
socket= folder=
while read -r what one two; do
  case $what in
    come) pids="$pids$one " ;;
    gone) pids="\${pids%% $one *} \${pids#* $one }" ;;
    listen) inode=$one socket=$two ;;
    folder) folder="$one\${two:+ $two}" ;;
    unlisten) socket= ;;
  esac
done
for pid in $pids; do kill -9 "-$pid"; done 2>/dev/null
if [ -n "$socket" ]; then
  set -- $(ls -id -- "$socket" 2>/dev/null)
  if [ "$1" = "$inode" ]; then rm -f -- "$socket"; fi
  if [ -n "$folder" ]; then rmdir -- "$folder"; fi
fi
`

/** Between the ends of two guards: one that cannot be started is tried again. */
const AGAIN_MS = 1_000

/** The guard of a server, and all that it has to know: one that is killed itself is replaced, and told again. */
export class Guard {
  readonly #workers = new Set<number>()
  #listening: readonly string[] = []
  #input: Writable | undefined
  #isClosed = false
  #started = 0

  /** @param run runs the program; gives its input, where it can be run, and calls back on a later turn when it has ended. */
  constructor(private readonly run: (ended: () => void) => Writable | undefined) {
    this.#start()
  }

  come(pid: number): void {
    this.#workers.add(pid)
    this.#tell(`come ${pid}`)
  }

  gone(pid: number): void {
    this.#workers.delete(pid)
    this.#tell(`gone ${pid}`)
  }

  /** @param lines which file the server listens on. */
  listens(lines: readonly string[]): void {
    this.#listening = lines
    for (const line of lines) this.#tell(line)
  }

  unlistens(): void {
    this.#listening = []
    this.#tell('unlisten')
  }

  /** Nothing is left to be guarded. */
  close(): void {
    this.#isClosed = true
    this.#input?.end()
  }

  #tell(line: string): void {
    this.#input?.write(`${line}\n`)
  }

  #start(): void {
    this.#started = performance.now()
    this.#input = this.run(() => this.#ended())
    for (const pid of this.#workers) this.#tell(`come ${pid}`)
    for (const line of this.#listening) this.#tell(line)
  }

  #ended(): void {
    this.#input = undefined
    if (this.#isClosed) return
    const early = this.#started + AGAIN_MS - performance.now()
    setTimeout(() => this.#isClosed || this.#start(), Math.max(0, early)).unref()
  }
}
