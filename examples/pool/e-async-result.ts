// (e) map_async with wait(timeout), ready(), successful(), get(timeout).
//
//     result = pool.map_async(wait, [300, 300]); result.wait(0.02); print(result.ready())
//     try: result.get(0.02)
//     except TimeoutError: print("not yet")
//     print(result.get(10), result.ready(), result.successful())
import { TimeoutError } from 'farpool'
import { open } from './open.js'

await using pool = await open({ processes: 2 })
const result = pool.mapAsync('wait', [300, 300], { chunksize: 1 })
await result.wait(20)
console.log(`ready ${result.ready()}`)
try {
  await result.get(20)
} catch (error) {
  console.log(error instanceof TimeoutError ? 'TimeoutError: not yet' : error)
}
console.log(`get ${await result.get(30_000)}`)
console.log(`ready ${result.ready()} successful ${result.successful()}`)
