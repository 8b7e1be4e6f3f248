import { CALL_ATTACKS } from './calls.js'
import { FRAME_ATTACKS } from './frames.js'
import { REQUEST_ATTACKS } from './requests.js'
import type { Attack } from './target.js'

/** Burns as much CPU as an attack does, and touches no server: what is left of an attack's harm when the server has no part in it. */
const burn: Attack = {
  what: 'no attack: as much CPU burnt as the attack before',
  async run(target) {
    const SLICE_MS = 10
    const spinMs = SLICE_MS * Math.min(1, target.options.share)
    while (!target.isOver) {
      const from = performance.now()
      while (performance.now() < from + spinMs);
      target.did('slices')
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, SLICE_MS - spinMs)))
    }
  },
}

export const CONTROL = 'burn'
/** What a hostile client can do, by name. */
export const KINDS: Readonly<Record<string, Attack>> = { ...CALL_ATTACKS, ...REQUEST_ATTACKS, ...FRAME_ATTACKS }
export const ATTACKS: Readonly<Record<string, Attack>> = { ...KINDS, [CONTROL]: burn }
