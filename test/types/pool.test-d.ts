// Compiled, never run: what must compile does, and what must not is marked with @ts-expect-error.
import { type AsyncResult, type ImapIterator, Pool, partial } from 'farpool'

const module = {
  fib: (n: number): number => n,
  greet: (name: string, options: { mark?: string } = {}): string => name + options.mark,
  load: async (path: string, width?: number): Promise<{ width: number; path: string }> => ({ width: width ?? 0, path }),
  nothing: (): void => {},
  constant: 42,
}
const pool = new Pool<typeof module>('localhost:1')

/** Fails to compile where the types differ. */
const same = <T>() => ({ as: <U>(_proof: [T, U] extends [U, T] ? true : never) => {} })

export async function names() {
  await pool.apply('fib', [1])
  // @ts-expect-error no function of that name
  await pool.apply('fob', [1])
  // @ts-expect-error an export that is no function
  await pool.apply('constant')
  // @ts-expect-error no function of that name, in a partial
  await pool.map(partial('fob'), [1])
  new Pool<typeof module>('localhost:1', { initializer: 'nothing' })
}

export async function applying() {
  same<number>().as<Awaited<ReturnType<typeof a>>>(true)
  const a = () => pool.apply('fib', [1])
  const loaded = await pool.apply('load', ['a.jpg'])
  same<{ width: number; path: string }>().as<typeof loaded>(true)
  await pool.apply('load', ['a.jpg', 3])
  await pool.apply('nothing')
  await pool.apply('greet', ['Ada'], { mark: '!' })
  const result: AsyncResult<string> = pool.applyAsync('greet', ['Ada'], undefined, { callback: (text: string) => text })
  same<string>().as<Awaited<typeof result>>(true)
  // @ts-expect-error a wrong argument
  await pool.apply('fib', ['1'])
  // @ts-expect-error one too many
  await pool.apply('fib', [1, 2])
  // @ts-expect-error a wrong second argument
  await pool.apply('load', ['a.jpg', 'wide'])
  // @ts-expect-error a callback for another result
  pool.applyAsync('fib', [1], undefined, { callback: (text: string) => text })
  // @ts-expect-error no such option
  pool.apply('fib', [1], undefined, { timeOut: 5 })
}

export async function mapping() {
  const squares = await pool.map('fib', [1, 2, 3])
  same<number[]>().as<typeof squares>(true)
  const outcomes = await pool.map('fib', new Set([1]), { settle: true })
  same<PromiseSettledResult<number>[]>().as<typeof outcomes>(true)
  const widths = await pool.starmap('load', [['a.jpg'], ['b.jpg', 2]])
  same<{ width: number; path: string }[]>().as<typeof widths>(true)
  const iterator: ImapIterator<string> = pool.imap('greet', ['a', 'b'])
  for await (const text of iterator) same<string>().as<typeof text>(true)
  const bound = await pool.map(partial('load', ['a.jpg']), [1, 2])
  same<{ width: number; path: string }[]>().as<typeof bound>(true)
  // @ts-expect-error items of a wrong type
  await pool.map('fib', ['1'])
  // @ts-expect-error items of a wrong type behind what is bound
  await pool.map(partial('load', ['a.jpg']), ['wide'])
  // @ts-expect-error argument lists of a wrong type
  await pool.starmap('load', [[1]])
  // @ts-expect-error an asynchronous input, which only imap takes
  await pool.map('fib', (async function* () {})())
}

export async function untyped() {
  const anything = new Pool('localhost:1')
  const value = await anything.apply('whatever', [1, 'two'], { three: 3 })
  value.isAny.and.can.be.used
  await anything.map('whatever', [1, 'two'])
}
