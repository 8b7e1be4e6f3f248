// (f) starmap: each item is a list of arguments.
//
//     pool.starmap(power, [(2, 3), (3, 2), (10, 0)])
import { open } from './open.js'

await using pool = await open({ processes: 2 })
const items: [number, number][] = [
  [2, 3],
  [3, 2],
  [10, 0],
]
console.log(`starmap ${await pool.starmap('power', items)}`)
console.log(`starmap_async ${await pool.starmapAsync('power', items, { chunksize: 2 }).get()}`)
