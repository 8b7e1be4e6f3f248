import type { Writable } from 'node:stream'

/**
 * The reaper's program, for /bin/sh. It reads which workers exist and which file the server listens on. When its input
 * ends, because the server's process has ended, it kills the workers that are left, also one in a busy loop that cannot
 * notice its closed socket, and removes the socket's file if that is still the same file (by inode).
 */
export const REAPER_PROGRAM = `
pids=' '
socket= folder=
while read -r what one two; do
  case $what in
    add) pids="$pids$one " ;;
    remove) pids="\${pids%% $one *} \${pids#* $one }" ;;
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

/** The pause before a reaper that has ended is replaced, so that one that cannot start is not started in a loop. */
const RESTART_MS = 1_000

/**
 * A small process that outlives this one, and kills the workers that a killed server leaves behind. It costs one shell.
 * If it is killed itself, another takes its place and is told everything again.
 */
export class OrphanReaper {
  readonly #workers = new Set<number>()
  /** Lines about the socket's file. */
  #file: readonly string[] = []
  #input: Writable | undefined
  #isClosed = false
  #startedAt = 0

  /**
   * @param run starts the program. Returns its input, or undefined if it cannot be started; calls `ended` once, in a
   * later turn of the event loop.
   */
  constructor(private readonly run: (ended: () => void) => Writable | undefined) {
    this.#start()
  }

  /** @param pid the leader of a worker's process group. */
  add(pid: number): void {
    this.#workers.add(pid)
    this.#send(`add ${pid}`)
  }

  remove(pid: number): void {
    this.#workers.delete(pid)
    this.#send(`remove ${pid}`)
  }

  /** @param lines of the program's language: `listen INODE PATH`, and `folder PATH` for a folder to remove too. */
  watchFile(lines: readonly string[]): void {
    this.#file = lines
    for (const line of lines) this.#send(line)
  }

  forgetFile(): void {
    this.#file = []
    this.#send('unlisten')
  }

  /** Nothing is left to reap: ends the program. */
  close(): void {
    this.#isClosed = true
    this.#input?.end()
  }

  #send(line: string): void {
    this.#input?.write(`${line}\n`)
  }

  #start(): void {
    this.#startedAt = performance.now()
    this.#input = this.run(() => this.#ended())
    for (const pid of this.#workers) this.#send(`add ${pid}`)
    for (const line of this.#file) this.#send(line)
  }

  #ended(): void {
    this.#input = undefined
    if (this.#isClosed) return
    const pause = Math.max(0, this.#startedAt + RESTART_MS - performance.now())
    setTimeout(() => this.#isClosed || this.#start(), pause).unref()
  }
}
