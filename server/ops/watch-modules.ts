import { type FSWatcher, statSync, watch } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { moduleFiles } from '../../wire/module-files.js'

/** How long files must stay as they are before a change counts: an editor or a compiler writes several in a row. */
const SETTLE_MS = 100

/**
 * Calls back when a file of the modules has changed, and again only when the promise has settled. It watches folders, because
 * an editor replaces a file by a new one. Returns a function that ends it.
 *
 * @param modules absolute paths.
 * @param changed must not reject.
 * @param unwatched a folder cannot be watched, for example because the system has no more watches.
 */
export function watchModules(
  modules: readonly string[],
  changed: (files: readonly string[]) => Promise<void>,
  unwatched: (folder: string, error: Error) => void,
): () => void {
  const urls = modules.map((module) => pathToFileURL(module))
  const folders = new Map<string, FSWatcher | undefined>()
  let known = new Map<string, string>()
  let timer: NodeJS.Timeout | undefined
  let isCalling = false
  let hasEnded = false

  /** What the files are now. New imports may have brought new ones. */
  const read = () => {
    const files = moduleFiles(urls).map((url) => fileURLToPath(url))
    for (const folder of new Set(files.map((file) => dirname(file)))) {
      if (!folders.has(folder)) watchFolder(folder)
    }
    return new Map(files.map((file) => [file, versionOf(file)]))
  }
  const watchFolder = (folder: string) => {
    const failed = (error: Error) => {
      folders.get(folder)?.close()
      folders.set(folder, undefined)
      unwatched(folder, error)
    }
    try {
      folders.set(folder, watch(folder, soon).on('error', failed))
    } catch (error) {
      failed(error as Error)
    }
  }
  const look = async () => {
    if (isCalling || hasEnded) return
    const now = read()
    const different = [...new Set([...known.keys(), ...now.keys()])].filter((file) => known.get(file) !== now.get(file))
    known = now
    if (different.length === 0) return
    isCalling = true
    await changed(different)
    isCalling = false
    soon()
  }
  const soon = () => {
    clearTimeout(timer)
    if (!hasEnded) timer = setTimeout(() => void look(), SETTLE_MS).unref()
  }
  known = read()
  return () => {
    hasEnded = true
    clearTimeout(timer)
    for (const watcher of folders.values()) watcher?.close()
  }
}

function versionOf(file: string): string {
  const stats = statSync(file, { throwIfNoEntry: false })
  return stats ? `${stats.ino} ${stats.size} ${stats.mtimeMs}` : 'missing'
}
