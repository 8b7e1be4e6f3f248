import { client } from '../built.js'

/** A client that has far more to do than its share; it ends when it is killed, or has done it. */
const [, , address = '', count = '0'] = process.argv
await using pool = new client.Pool(address)
await pool.apply('noop', [0])
process.send?.('begun')
// A few microseconds of work each, so that the queue stays long.
await Promise.all(Array.from({ length: Number(count) }, () => pool.applyAsync('work', [2_000])))
