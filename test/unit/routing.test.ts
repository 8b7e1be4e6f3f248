import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'

interface Field {
  name: string
  number: number
  label: string
  type: string
  typeName?: string
}
interface File {
  name: string
  package: string
  messageType?: { name: string; field?: Field[] }[]
}

const { file: files } = JSON.parse(
  execFileSync('npx', ['--no-install', 'buf', 'build', '-o', '-#format=json'], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  }),
) as { file: File[] }

const messages = (name: string) =>
  new Map(
    files
      .filter((file) => file.package === name)
      .flatMap(({ messageType = [] }) => messageType)
      .map((message) => [message.name, message.field ?? []]),
  )

/** A field by its form on the wire: payloads are bytes there, and enums are integers. */
const onTheWire = ({ name, number, label, type, typeName }: Field) => {
  const own = typeName?.replace(/^\.farpool\.(v1|routing\.v1)\./, '')
  const wire =
    own === 'Payload' || type === 'TYPE_BYTES'
      ? 'payload'
      : type === 'TYPE_ENUM' || type === 'TYPE_INT32'
        ? 'varint'
        : `${type} ${own ?? ''}`
  return { name, number, label, wire }
}

const isOnlyInMap = ({ name }: Field): boolean => name === 'request_id'
const isOnlyInImap = ({ name }: Field): boolean => name === 'ordered' || name === 'allow_partial'

describe('farpool.routing.v1', () => {
  const routing = messages('farpool.routing.v1')
  const api = messages('farpool.v1')

  it.each([...routing.keys()])('%s has the fields of the public message, under the same numbers', (name) => {
    // The view has one message for Map and IMap: the fields of IMap, and request_id, which only Map has.
    const both = [...(api.get('IMapRequest') ?? []), ...(api.get('MapRequest') ?? []).filter(isOnlyInMap)].sort(
      (a, b) => a.number - b.number,
    )
    const expected = name === 'MapRequest' ? both : (api.get(name) ?? [])
    expect(routing.get(name)?.map(onTheWire)).toEqual(expected.map(onTheWire))
  })

  it('MapRequest and IMapRequest differ only in `ordered`, `allow_partial` and `request_id`', () => {
    const fields = (name: string) =>
      api
        .get(name)
        ?.filter((field) => !isOnlyInImap(field) && !isOnlyInMap(field))
        .map(onTheWire)
    expect(fields('MapRequest')).toEqual(fields('IMapRequest'))
  })
})
