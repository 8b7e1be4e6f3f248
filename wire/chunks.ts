/** Chunks of one imap that are pulled but not yet consumed: at least this many, and 4 per process. */
export const IMAP_WINDOW_CHUNKS = 16

/**
 * CPython's default for map and starmap: about four chunks for every process, so that a slow one evens out.
 * `ceil(items / (4 * processes))`, and 1 for no items.
 */
export const defaultChunksize = (items: number, processes: number): number =>
  Math.max(1, Math.ceil(items / (4 * processes)))
