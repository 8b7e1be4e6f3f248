import { readFileSync } from 'node:fs'
import { Failure } from './failure.js'
import thisFolder from './this-folder.cjs'

/** Where the package is: the nearest folder above this code whose package.json has its name. */
interface Package {
  readonly folder: URL
  readonly version: string
}

let found: Package | undefined

/**
 * A file of this package, by its path from the folder of package.json.
 *
 * @throws Failure BAD_REQUEST if this code is in no such folder: a bundler has put it into another program.
 */
export function packageFile(path: string): URL {
  const folder = thisPackage()?.folder
  if (folder) return new URL(path, folder)
  throw new Failure(
    'BAD_REQUEST',
    `farpool is inside of a bundle, where it cannot find its file ${path}: only clients of a server work there. ` +
      "Leave it out of the bundle and install it beside it (esbuild: --external:farpool; webpack: externals: { farpool: 'farpool' })",
  )
}

/** The version in package.json, or `unknown` in a bundle. */
export const packageVersion = (): string => thisPackage()?.version ?? 'unknown'

const thisPackage = (): Package | undefined => {
  if (thisFolder !== undefined) found ??= search(new URL(thisFolder))
  return found
}

function search(folder: URL): Package | undefined {
  try {
    const { name, version } = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8'))
    if (name === 'farpool') return { folder, version }
  } catch {}
  const above = new URL('..', folder)
  return above.href === folder.href ? undefined : search(above)
}
