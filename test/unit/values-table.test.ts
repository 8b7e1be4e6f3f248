import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { decodePayload, encodePayload, type Kind } from '../../wire/values/payload.js'

/** Checks the tables of docs/reference/values.md: evaluates each example, encodes it and decodes it again. */
const page = readFileSync(new URL('../../docs/reference/values.md', import.meta.url), 'utf8')

const section = (title: string): string[][] => {
  const text = page.slice(page.indexOf(`## ${title}\n`)).slice(3)
  const rows = text.slice(0, text.indexOf('\n## ')).match(/^\|.*\|$/gm) ?? []
  return rows.slice(2).map((row) =>
    row
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  )
}
const examples = (cell = '') => [...cell.matchAll(/`([^`]+)`/g)].map((match) => String(match[1]))
// The examples come from this repository, so evaluating them is safe.
const evaluate = (code: string): unknown => new Function(`return (${code})`)()
const travel = (value: unknown, kind: Kind) => decodePayload(encodePayload(value, kind)).value

function rows(title: string, valueColumn: number, arrivesColumn: number): [string, string][] {
  return section(title).flatMap((cells) => {
    const arrives = examples(cells[arrivesColumn])[0]
    return examples(cells[valueColumn]).map((value): [string, string] => [value, arrives ?? value])
  })
}

describe('docs/reference/values.md', () => {
  const cbor = rows('CBOR: what arrives as what in TypeScript', 0, 2)
  const json = rows('JSON', 0, 1)
  const refused = section('CBOR: what cannot be sent').flatMap(([cell]) => examples(cell))

  it('has rows in every table', () => {
    expect([cbor.length, json.length, refused.length].every((count) => count >= 8)).toBe(true)
  })

  it.each(cbor)('over CBOR, %s arrives as %s', (value, arrives) => {
    const arrived = travel(evaluate(value), 'cbor')
    expect(arrived).toStrictEqual(evaluate(arrives))
    if (typeof arrived === 'number') expect(Object.is(arrived, evaluate(arrives))).toBe(true)
  })

  it.each(json)('over JSON, %s arrives as %s', (value, arrives) => {
    expect(travel(evaluate(value), 'json')).toStrictEqual(evaluate(arrives))
  })

  it.each(refused)('over CBOR, %s is refused', (value) => {
    expect(() => encodePayload(evaluate(value), 'cbor')).toThrow(/^value/)
  })

  it.each([
    'NaN',
    '[Infinity]',
    '5n',
    'new Uint8Array(1)',
    'Buffer.from("a")',
    'new Map()',
    '[new Set()]',
    'new Date(NaN)',
    '[undefined]',
    '() => 1',
    'new Int8Array(1).buffer',
    'Promise.resolve()',
  ])('over JSON, %s is refused', (value) => {
    expect(() => encodePayload(evaluate(value), 'json')).toThrow(/^value/)
  })
})
