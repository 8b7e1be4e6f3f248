import { client } from '../built.js'

/** A client with a long queue of tasks. It ends when they are done or it is killed. */
const [, , address = '', count = '0'] = process.argv
await using pool = new client.Pool(address)
await pool.apply('noop', [0])
process.send?.('begun')
// A few microseconds of work each, so that the queue stays long.
await Promise.all(Array.from({ length: Number(count) }, () => pool.applyAsync('work', [2_000])))
