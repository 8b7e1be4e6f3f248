import { readFileSync, statSync } from 'node:fs'

/** `from '…'`, `import '…'`, `import('…')` and `require('…')` with a relative path. */
const RELATIVE_IMPORT = /(?:\bfrom|\bimport|\brequire)\s*\(?\s*(['"])(\.{1,2}\/[^'"\n]+)\1/g

/** What CommonJS and TypeScript let an import leave out, or call otherwise. */
const ENDINGS = ['', '.js', '.cjs', '.mjs', '.ts', '.cts', '.mts', '.tsx', '.json', '/index.js', '/index.ts']

/**
 * The files that these modules consist of: the modules, and what they import by relative paths, directly or not. It reads
 * the imports from the text. So it does not know paths that are computed, and packages are left out. Files that cannot be
 * read are included where the modules themselves name them.
 *
 * @param modules file: URLs.
 */
export function moduleFiles(modules: readonly URL[]): URL[] {
  const files = new Map<string, URL>()
  const add = (file: URL): void => {
    if (files.has(file.href)) return
    files.set(file.href, file)
    for (const path of importsOf(file)) {
      // TypeScript names a file by what it is compiled to.
      const paths = [path, path.replace(/\.([cm]?)js$/, '.$1ts')]
      const found = paths.flatMap((name) => ENDINGS.map((ending) => new URL(`${name}${ending}`, file))).find(isFile)
      if (found) add(found)
    }
  }
  for (const module of modules) add(module)
  return [...files.values()]
}

function importsOf(file: URL): string[] {
  try {
    return [...readFileSync(file, 'utf8').matchAll(RELATIVE_IMPORT)].map((match) => String(match[2]))
  } catch {
    return []
  }
}

function isFile(file: URL): boolean {
  try {
    return statSync(file, { throwIfNoEntry: false })?.isFile() ?? false
  } catch {
    // No URL of a file, such as one with a lone per cent sign.
    return false
  }
}
