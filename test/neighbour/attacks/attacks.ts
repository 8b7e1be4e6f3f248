import { BURN } from './burn.js'
import { CALL_ATTACKS } from './calls.js'
import { FRAME_ATTACKS } from './frames.js'
import { REQUEST_ATTACKS } from './requests.js'
import type { Attack } from './target.js'

export const CONTROL = 'burn'
/** What a hostile client can do, by name. */
export const KINDS: Readonly<Record<string, Attack>> = { ...CALL_ATTACKS, ...REQUEST_ATTACKS, ...FRAME_ATTACKS }
export const ATTACKS: Readonly<Record<string, Attack>> = { ...KINDS, [CONTROL]: BURN }
