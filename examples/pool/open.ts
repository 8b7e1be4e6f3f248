import { type LocalOptions, Pool } from 'farpool'

/** Opens a pool: on the server whose address is the first argument, else a local one. */
export const open = async (options: LocalOptions = {}): Promise<Pool<typeof import('./functions.js')>> =>
  process.argv[2] === undefined
    ? Pool.local(new URL('./functions.js', import.meta.url), options)
    : new Pool(process.argv[2], { processes: 2, ...options })
