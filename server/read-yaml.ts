import { readFile } from 'node:fs/promises'
import { Failure } from '../wire/failure.js'
import { reasonOf } from '../wire/values/value-errors.js'
import { bad, isObject } from './resolve-config.js'

/** The object in a file of YAML or JSON. @throws Failure BAD_REQUEST that names the file, and the line of a mistake. */
export async function readYaml(path: string): Promise<Record<string, unknown>> {
  // Loaded here: most servers have no such file.
  const { parseDocument } = await import('yaml')
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new Failure('BAD_REQUEST', `the file ${path} cannot be read: ${reasonOf(error)}`)
  })
  const document = parseDocument(text)
  const [error] = document.errors
  if (error) {
    const [at] = error.linePos ?? []
    const message = error.message.split('\n')[0]?.replace(/ at line \d+, column \d+:$/, '')
    throw new Failure('BAD_REQUEST', `${path}${at ? `:${at.line}:${at.col}` : ''}: ${message}`)
  }
  const content: unknown = document.toJS() ?? {}
  if (!isObject(content)) bad(`the content of ${path}`, content, 'must be an object of options')
  return content as Record<string, unknown>
}
