import { openSync, unlinkSync } from 'node:fs'

/**
 * Creates a file that loses its name at once, so that nothing stays behind, even if every process that has it open is
 * killed. Returns its descriptor; undefined if there is no such folder or no room.
 */
export function openNamelessFile(path: string): number | undefined {
  try {
    const fd = openSync(path, 'wx+', 0o600)
    unlinkSync(path)
    return fd
  } catch {
    return undefined
  }
}
