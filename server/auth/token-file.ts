import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import * as v from 'valibot'
import { Failure } from '../../wire/failure.js'
import { reasonOf } from '../../wire/values/value-errors.js'
import { integer, text } from '../option-table.js'
import { readYaml } from '../read-yaml.js'
import { bad, checkNames, isObject, SECRET } from '../resolve-config.js'
import type { Rules } from './rules.js'

/** One entry of the file of --tokens. */
export interface TokenEntry {
  readonly name: string
  /** The SHA-256 of each of its tokens, in lower case. None: the entry is for the client certificate of this subject. */
  readonly digests: readonly string[]
  readonly rules: Rules
}

export const digestOf = (token: string): Buffer => createHash('sha256').update(token).digest()

const NAME = 'must be 1 to 100 characters, without control characters'
export const tokenName = v.pipe(v.string(NAME), v.regex(/^\P{C}{1,100}$/u, NAME))

const DIGEST = 'must be the 64 hexadecimal digits that "farpool token new" prints, in quotes, or an array of such texts'
const digest = v.pipe(v.string(DIGEST), v.regex(/^[\da-f]{64}$/i, DIGEST))

const FUNCTIONS = 'must be an array of names of functions, in which * stands for any text'

const FIELDS = {
  name: tokenName,
  sha256: v.optional(v.union([digest, v.pipe(v.array(digest), v.minLength(1))], DIGEST)),
  functions: v.optional(v.array(text(FUNCTIONS), FUNCTIONS)),
  pools: v.optional(integer(0)),
  processes: v.optional(integer(0)),
  queued: v.optional(integer(1)),
  connections: v.optional(integer(1)),
  terminate: v.optional(v.boolean('must be true or false')),
}
const schema = v.object(FIELDS)

/** @throws Failure BAD_REQUEST that names the file, the entry, and what would be right. It never repeats a digest. */
export async function readTokens(path: string): Promise<TokenEntry[]> {
  const { mode } = await stat(path).catch((error: unknown) => {
    throw new Failure('BAD_REQUEST', `the file ${path} cannot be read: ${reasonOf(error)}`)
  })
  // Windows has other permissions, of which the mode says nothing.
  if (mode & 0o007 && process.platform !== 'win32') {
    const octal = (mode & 0o777).toString(8)
    throw new Failure('BAD_REQUEST', `${path} is open to every user (mode ${octal}); run: chmod 640 ${path}`)
  }
  const content = await readYaml(path)
  checkNames(content, ['tokens'], `${path}: `)
  const { tokens } = content
  // An editor may empty a file before it writes the new content. That must not revoke every token.
  if (!Array.isArray(tokens) || tokens.length === 0) bad(`tokens in ${path}`, tokens, 'must be an array with an entry')
  const entries = tokens.map((entry: unknown, at) => entryOf(entry, `${path}: tokens[${at}]`))
  checkDuplicates(entries, path)
  return entries
}

function entryOf(entry: unknown, place: string): TokenEntry {
  if (!isObject(entry)) bad(place, entry, 'must be an object such as { name: web, sha256: … }')
  const { name: called } = entry as { name?: unknown }
  const where = typeof called === 'string' ? `${place} (${JSON.stringify(called.slice(0, 100))})` : place
  checkNames(entry, Object.keys(FIELDS), `${where}: `)
  const result = v.safeParse(schema, entry)
  if (!result.success) {
    const [issue] = result.issues
    const field = String(issue.path?.[0].key)
    const value: unknown = (entry as Record<string, unknown>)[field]
    bad(`${where}: ${field}`, field === 'sha256' ? SECRET : value, field in entry ? issue.message : 'must be given')
  }
  const { name, sha256 = [], ...rules } = result.output
  return { name, digests: [sha256].flat().map((hex) => hex.toLowerCase()), rules }
}

function checkDuplicates(entries: readonly TokenEntry[], path: string): void {
  const names = new Set<string>()
  const owners = new Map<string, string>()
  for (const [at, { name, digests }] of entries.entries()) {
    const where = `${path}: tokens[${at}]`
    if (names.has(name)) {
      const message = `${where}: duplicate name ${JSON.stringify(name)}; one entry may have several tokens, as an array in sha256`
      throw new Failure('BAD_REQUEST', message)
    }
    names.add(name)
    for (const one of digests) {
      const owner = owners.get(one)
      if (owner !== undefined) {
        const message = `${where} (${JSON.stringify(name)}): its token is also one of ${JSON.stringify(owner)}; each token must have one entry`
        throw new Failure('BAD_REQUEST', message)
      }
      owners.set(one, name)
    }
  }
}

/** How often the file is looked at. A change is read once the file has stayed the same from one look to the next. */
const LOOK_MS = 1_000

/**
 * Watches the file of --tokens. It looks instead of listening: a file that was renamed over the old one, and a link that now
 * leads elsewhere, as Kubernetes does it, are changes too.
 */
export class TokenFile {
  readonly #timer: NodeJS.Timeout
  #read: string
  #seen: string
  #isLooking = false

  private constructor(
    private readonly path: string,
    stamp: string,
    private readonly listener: { changed(entries: TokenEntry[]): void; broken(error: unknown): void },
  ) {
    this.#read = stamp
    this.#seen = stamp
    this.#timer = setInterval(() => void this.#look(), LOOK_MS).unref()
  }

  /** Reads the file, and watches it until `close`. @throws Failure as `readTokens`. */
  static async open(
    path: string,
    listener: { changed(entries: TokenEntry[]): void; broken(error: unknown): void },
  ): Promise<TokenFile> {
    const stamp = await stampOf(path)
    listener.changed(await readTokens(path))
    return new TokenFile(path, stamp, listener)
  }

  close(): void {
    clearInterval(this.#timer)
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return
    this.#isLooking = true
    try {
      const stamp = await stampOf(this.path)
      const isStill = stamp === this.#seen
      this.#seen = stamp
      if (!isStill || stamp === this.#read) return
      this.#read = stamp
      this.listener.changed(await readTokens(this.path))
    } catch (error) {
      this.listener.broken(error)
    } finally {
      this.#isLooking = false
    }
  }
}

/** Differs if the file is another one, or has been written to, or has another mode. */
async function stampOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mode, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    return [dev, ino, size, mode, mtimeNs, ctimeNs].join()
  } catch (error) {
    return reasonOf(error)
  }
}
