// (d) imap and imap_unordered with chunksize 2, consumed after close().
//
//     ordered = pool.imap(slow_square, range(8), chunksize=2)
//     unordered = pool.imap_unordered(slow_square, range(8), chunksize=2)
//     pool.close(); print(list(ordered)); print(list(unordered)); pool.join()
import { open } from './open.js'

const pool = await open({ processes: 2 })
const numbers = [0, 1, 2, 3, 4, 5, 6, 7]
const ordered = pool.imap('slowSquare', numbers, { chunksize: 2 })
const unordered = pool.imapUnordered('slowSquare', numbers, { chunksize: 2 })
await pool.close()
const collect = async (results: AsyncIterable<number>) => {
  const list: number[] = []
  for await (const result of results) list.push(result)
  return list
}
console.log(`imap ${await collect(ordered)}`)
console.log(`imap_unordered ${await collect(unordered)}`)
await pool.join()
console.log('joined')
