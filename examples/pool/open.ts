import { Pool, type PoolOptions } from 'farpool'

/** Opens a pool: on the server whose address is the first argument, else on a local server that it starts. */
export const open = async (options: PoolOptions = {}): Promise<Pool<typeof import('./functions.js')>> =>
  process.argv[2] === undefined
    ? Pool.local(new URL('./functions.js', import.meta.url), options)
    : new Pool(process.argv[2], { processes: 2, ...options })
