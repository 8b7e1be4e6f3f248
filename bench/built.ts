import type * as Client from '../dist/client/index.js'
import type * as Server from '../dist/server/index.js'

/** Imports the build, which is what users have. */
const built = (path: string) => import(new URL(`../../dist/${path}`, import.meta.url).href)

export const client: typeof Client = await built('client/index.js')
export const server: typeof Server = await built('server/index.js')
