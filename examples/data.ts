// Finds real input on every machine: the text files of the installed packages.
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

export interface Found {
  /** Paths of source files, declarations, Markdown and licences, the largest first. */
  texts: string[]
  /** Paths of the Markdown files among them. */
  markdown: string[]
}

const MAX_BYTES = 2_000_000

/** Finds at most `most` files. The result is the same on every run. */
export function findFiles(folder: string, most: number): Found {
  const files: { path: string; size: number }[] = []
  walk(folder, files)
  files.sort((a, b) => b.size - a.size || (a.path < b.path ? -1 : 1))
  const paths = files.map(({ path }) => path)
  return {
    texts: paths.slice(0, most),
    markdown: paths.filter((path) => /\.md$/i.test(path)).slice(0, most),
  }
}

function walk(folder: string, files: { path: string; size: number }[]): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) walk(path, files)
    else if (entry.isFile() && /(\.([cm]?[jt]s|md|txt)|LICENSE)$/i.test(entry.name)) {
      const { size } = statSync(path)
      if (size > 0 && size <= MAX_BYTES) files.push({ path, size })
    }
  }
}
