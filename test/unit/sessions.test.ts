import { describe, expect, it } from 'vitest'
import { MAX_DETACHED, Sessions } from '../../server/session/session-table.js'

describe('sessions that wait for a new stream', () => {
  it('are given up where they are too many: the oldest of the connection that has left most', () => {
    const sessions = new Sessions<{ readonly connection: object; end(): void }>()
    const given: string[] = []
    const leave = (name: string, connection: object) => {
      const id = name.padEnd(16, '.')
      sessions.attach({ id, resumed: false }, () => ({ connection, end: () => void given.push(name) }))
      sessions.detach(id)
    }
    const [innocent, hostile] = [{}, {}]
    leave('innocent', innocent)
    for (let at = 0; at < MAX_DETACHED + 1; at++) leave(`hostile ${at}`, hostile)
    expect(given).toEqual(['hostile 0', 'hostile 1'])
    leave('innocent too', innocent)
    expect(given).toEqual(['hostile 0', 'hostile 1', 'hostile 2'])
    sessions.close()
    expect(given).toHaveLength(MAX_DETACHED + 3)
  })
})
