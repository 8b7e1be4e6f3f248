// (b) apply_async with keyword arguments and a callback, then apply.
//
//     result = pool.apply_async(power, (2, 10), {"plus": 1}, callback=lambda x: print("callback", x))
//     print("get", result.get()); print("apply", pool.apply(power, (2, 3)))
import { open } from './open.js'

await using pool = await open({ processes: 2 })
const result = pool.applyAsync('power', [2, 10], { plus: 1 }, { callback: (value) => console.log(`callback ${value}`) })
console.log(`get ${await result.get()}`)
console.log(`apply ${await pool.apply('power', [2, 3])}`)
