import { readFileSync } from 'node:fs'

/** The version in package.json. That file is one folder above the sources and two above the compiled code in dist/. */
export const VERSION: string = (() => {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
      if (name === 'farpool') return String(version)
    } catch {}
  }
  return 'unknown'
})()
