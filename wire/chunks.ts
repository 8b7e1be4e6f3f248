/** The arithmetic of chunks; pure. */

/**
 * CPython's default for map and starmap: about four chunks for every process, so that a slow one evens out.
 * `ceil(items / (4 * processes))`, and 1 for no items.
 */
export const defaultChunksize = (items: number, processes: number): number =>
  Math.max(1, Math.ceil(items / (4 * processes)))

/** Cuts items into chunks of `chunksize`; the last may be shorter. */
export function cutChunks<T>(items: readonly T[], chunksize: number): T[][] {
  const chunks: T[][] = []
  for (let start = 0; start < items.length; start += chunksize) chunks.push(items.slice(start, start + chunksize))
  return chunks
}
