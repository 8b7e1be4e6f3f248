import type { Writable } from 'node:stream'

/**
 * The reaper's program, for /bin/sh. It reads which workers exist and on which files servers listen. When its input ends,
 * because the process that wrote it has ended, it kills the workers that are left, also one in a busy loop that cannot
 * notice its closed socket, and removes each file that is still the same file (by inode).
 */
export const REAPER_PROGRAM = `
pids=' '
files=
while read -r what one two; do
  line="$one $two
"
  case $what in
    add) pids="$pids$one " ;;
    remove) pids="\${pids%% $one *} \${pids#* $one }" ;;
    listen) files="$files$line" ;;
    unlisten) files="\${files%%"$line"*}\${files#*"$line"}" ;;
  esac
done
for pid in $pids; do kill -9 "-$pid"; done 2>/dev/null
printf %s "$files" | while read -r inode path; do
  set -- $(ls -id -- "$path" 2>/dev/null)
  if [ "$1" = "$inode" ]; then rm -f -- "$path"; fi
done
`

/** The pause before a reaper that has ended is replaced, so that one that cannot start is not started in a loop. */
const RESTART_MS = 1_000

/**
 * A small process that outlives this one, and kills the workers that a killed program leaves behind. It costs one shell,
 * which all launchers of a program share: it runs from the first `add` or `listen` until nothing is left to reap and the
 * last launcher has left. If it is killed itself, another takes its place and is told everything again.
 */
export class OrphanReaper {
  /** What to reap, in lines of the program's language. */
  readonly #told = new Set<string>()
  #launchers = 0
  #input: Writable | undefined
  #restart: NodeJS.Timeout | undefined

  /**
   * @param run starts the program. Returns its input, or undefined if it cannot be started; calls `ended` once, in a
   * later turn of the event loop.
   */
  constructor(private readonly run: (ended: () => void) => Writable | undefined) {}

  /** A launcher that will use it. */
  enter(): void {
    this.#launchers++
  }

  /** A launcher whose workers have all exited. */
  leave(): void {
    this.#launchers--
    this.#endIfUnused()
  }

  /** @param pid the leader of a worker's process group. */
  add(pid: number): void {
    this.#tell(`add ${pid}`)
  }

  remove(pid: number): void {
    this.#forget(`add ${pid}`, `remove ${pid}`)
  }

  /** @param file `INODE PATH` of a socket. */
  listen(file: string): void {
    // The program reads lines: a path with a line break would be read as something else.
    if (!file.includes('\n')) this.#tell(`listen ${file}`)
  }

  unlisten(file: string): void {
    this.#forget(`listen ${file}`, `unlisten ${file}`)
  }

  #tell(line: string): void {
    this.#told.add(line)
    if (this.#input) this.#input.write(`${line}\n`)
    else if (!this.#restart) this.#start()
  }

  #forget(told: string, line: string): void {
    if (!this.#told.delete(told)) return
    this.#input?.write(`${line}\n`)
    this.#endIfUnused()
  }

  #endIfUnused(): void {
    if (this.#launchers > 0 || this.#told.size > 0) return
    this.#input?.end()
    this.#input = undefined
  }

  #start(): void {
    const startedAt = performance.now()
    const input = this.run(() => {
      if (this.#input !== input) return
      this.#input = undefined
      this.#startAfter(startedAt + RESTART_MS - performance.now())
    })
    this.#input = input
    for (const line of this.#told) input?.write(`${line}\n`)
  }

  #startAfter(ms: number): void {
    this.#restart = setTimeout(() => {
      this.#restart = undefined
      if (this.#told.size > 0) this.#start()
    }, ms).unref()
  }
}
