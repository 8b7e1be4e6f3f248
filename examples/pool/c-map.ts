// (c) map and map_async with chunksize 2, and a partial.
//
//     pool.map(square, range(7), chunksize=2)
//     pool.map_async(partial(power, 2), range(7), chunksize=2).get()
import { partial } from 'farpool'
import { open } from './open.js'

await using pool = await open({ processes: 2 })
const numbers = [0, 1, 2, 3, 4, 5, 6]
console.log(`map ${await pool.map('square', numbers, { chunksize: 2 })}`)
console.log(`map_async ${await pool.mapAsync(partial('power', [2]), numbers, { chunksize: 2 }).get()}`)
