import { readFileSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { Script } from 'node:vm'
import { moduleFiles } from '../wire/module-files.js'

/**
 * Where the syntax error is that kept a module from being loaded, as `FILE:LINE`; empty if it is no syntax error, or if
 * that cannot be found. For CommonJS, and for names that are not exported, it stands above the stack. For an ES module,
 * Node tells the place to nobody but the terminal.
 */
export function placeOf(error: unknown, module: string): string {
  if (!(error instanceof SyntaxError)) return ''
  const above = placeAbove(error)
  if (above) return above
  for (const file of moduleFiles([pathToFileURL(module)])) {
    const path = fileURLToPath(file)
    let code = ''
    try {
      code = readFileSync(file, 'utf8')
      new Script(asScript(code), { filename: path })
    } catch (found) {
      if (!(found instanceof SyntaxError)) continue
      // What closes the script comes too early then.
      if (error.message === 'Unexpected end of input') return `${path}:${code.trimEnd().split('\n').length}`
      // Another message may come of the imports and exports that are missing.
      if (found.message === error.message) return placeAbove(found)
    }
  }
  return ''
}

/** The first line of the stack is `FILE:LINE` where Node knows the place. */
function placeAbove({ stack = '' }: SyntaxError): string {
  const place = /^(?:file:\/\/)?\/.*:\d+$/.exec(stack.split('\n', 1)[0] ?? '')?.[0] ?? ''
  return place.startsWith('file:') ? place.replace(/^(.*)(:\d+)$/, (_, url, line) => fileURLToPath(url) + line) : place
}

/** The code of an ES module as a script that has the same lines, without its imports and exports. */
function asScript(code: string): string {
  const blank = (text: string) => text.replace(/[^\n]/g, ' ')
  const body = code
    .replace(/^[ \t]*import\b(?!\s*[.(])[^;'"]*(['"])[^'"\n]*\1(\s*with\s*\{[^}]*\})?/gm, blank)
    .replace(/^[ \t]*export\s*(\*|\{)[^;'"}]*\}?(\s*from\s*(['"])[^'"\n]*\3)?/gm, blank)
    .replace(/^([ \t]*)export\s+default\b/gm, '$1void 0,')
    .replace(/^([ \t]*)export\s+(?=async|function|class|const|let|var)/gm, '$1')
    .replace(/\bimport\.meta\b/g, 'import_meta')
  return `async () => { 'use strict'; ${body}\n}`
}
