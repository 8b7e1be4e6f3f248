import type * as Client from 'farpool'

export type { OwnedPoolOptions }

type OwnedPoolOptions = Pick<Client.PoolOptions, 'processes' | 'initializer' | 'initargs' | 'maxtasksperchild'>
export type Pool = Client.Pool
export type FarpoolError = Client.FarpoolError

/** Imports the client of a build: of this repository, or of a copy with a planted bug. */
export const clientOfBuild = (build: string): Promise<typeof Client> => import(`file://${build}/client/index.js`)

export const isFarpoolError = (error: unknown): error is FarpoolError =>
  error instanceof Error && 'reason' in error && 'started' in error
