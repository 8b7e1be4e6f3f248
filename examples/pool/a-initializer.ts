// (a) An initializer with arguments, and maxtasksperchild: five tasks on two processes, at most two tasks each.
//
//     with Pool(2, start, ("hello", 7), maxtasksperchild=2) as pool:
//         for fact in pool.map(whoami, range(5), chunksize=1): print(fact)
import { open } from './open.js'

await using pool = await open({ processes: 2, initializer: 'start', initargs: ['hello', 7], maxtasksperchild: 2 })
for (const { task, pid, prefix, started } of await pool.map('whoami', [0, 1, 2, 3, 4], { chunksize: 1 })) {
  console.log(`task ${task} ran in process ${pid}, which was initialized ${started} time as ${prefix}`)
}
