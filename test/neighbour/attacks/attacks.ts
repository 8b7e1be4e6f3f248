import { BURN } from './burn.js'
import { CALL_ATTACKS } from './calls.js'
import { FRAME_ATTACKS } from './frames.js'
import { REQUEST_ATTACKS } from './requests.js'
import type { Attack } from './target.js'

/** Not an attack: it burns CPU and does not call the server. */
export const CONTROL = 'burn'
/** The kinds of attack, by name. */
export const KINDS: Readonly<Record<string, Attack>> = { ...CALL_ATTACKS, ...REQUEST_ATTACKS, ...FRAME_ATTACKS }
export const ATTACKS: Readonly<Record<string, Attack>> = { ...KINDS, [CONTROL]: BURN }
