import { readFileSync } from 'node:fs'

/** The version in package.json, which lies above both the sources and dist/. */
export const VERSION: string = (() => {
  for (const up of ['../package.json', '../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8'))
      if (name === 'farpool') return String(version)
    } catch {}
  }
  return 'unknown'
})()
