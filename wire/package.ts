import { readFileSync } from 'node:fs'

/** Where the package is: the nearest folder above this code whose package.json has its name. */
interface Package {
  readonly folder: URL
  readonly version: string
}

let found: Package | undefined

/**
 * A file of this package, by its path from the folder of package.json.
 *
 * @throws Error if this code is in no such folder: a bundler has put it into another program.
 */
export function packageFile(path: string): URL {
  found ??= search(new URL('.', import.meta.url))
  if (found) return new URL(path, found.folder)
  throw new Error(`${path} of farpool cannot be found from ${import.meta.url}: leave farpool out of the bundle`)
}

/** The version in package.json, or `unknown` in a bundle. */
export function packageVersion(): string {
  found ??= search(new URL('.', import.meta.url))
  return found?.version ?? 'unknown'
}

function search(folder: URL): Package | undefined {
  try {
    const { name, version } = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8'))
    if (name === 'farpool') return { folder, version }
  } catch {}
  const above = new URL('..', folder)
  return above.href === folder.href ? undefined : search(above)
}
