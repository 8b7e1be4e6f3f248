import { describe, expect, it } from 'vitest'
import type { Identity } from '../../pool/scheduler/task.js'
import { Credential, Principal } from '../../server/auth/identity.js'
import { MAX_DETACHED, SessionTable } from '../../server/session/session-table.js'

describe('sessions without a stream', () => {
  it('end if there are too many: the oldest of the identity that has most of them', () => {
    const sessions = new SessionTable<{ readonly identity: Identity; readonly credential: Credential; end(): void }>()
    const ended: string[] = []
    const principal = new Principal('anyone')
    const credential = new Credential(principal)
    const detach = (name: string, identity: Identity) => {
      const create = () => ({ identity, credential, end: () => void ended.push(name) })
      const { key } = sessions.attach({ id: name.padEnd(16, '.'), resumed: false }, principal, create)
      sessions.detach(key)
    }
    const [innocent, hostile] = [{ name: 'innocent' }, { name: 'hostile' }]
    detach('innocent', innocent)
    for (let at = 0; at < MAX_DETACHED + 1; at++) detach(`hostile ${at}`, hostile)
    expect(ended).toEqual(['hostile 0', 'hostile 1'])
    detach('innocent too', innocent)
    expect(ended).toEqual(['hostile 0', 'hostile 1', 'hostile 2'])
    sessions.close()
    expect(ended).toHaveLength(MAX_DETACHED + 3)
  })
})
