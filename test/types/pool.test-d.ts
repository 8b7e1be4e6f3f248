// This file is compiled and never run. A line that must not compile is marked with @ts-expect-error.
import { type AsyncResult, type ImapChunks, type ImapIterator, Pool, partial } from 'farpool'

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
  // @ts-expect-error the module has no function of this name
  await pool.apply('fob', [1])
  // @ts-expect-error the export is not a function
  await pool.apply('constant')
  // @ts-expect-error the module has no function of the name in the partial
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
  // @ts-expect-error the argument has the wrong type
  await pool.apply('fib', ['1'])
  // @ts-expect-error there is one argument too many
  await pool.apply('fib', [1, 2])
  // @ts-expect-error the second argument has the wrong type
  await pool.apply('load', ['a.jpg', 'wide'])
  // @ts-expect-error the callback takes another type of result
  pool.applyAsync('fib', [1], undefined, { callback: (text: string) => text })
  // @ts-expect-error there is no such option
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
  const chunks: ImapChunks<string> = iterator.chunks()
  for await (const texts of chunks) same<string[]>().as<typeof texts>(true)
  same<IteratorResult<string[], undefined>>().as<Awaited<ReturnType<typeof chunks.next>>>(true)
  const bound = await pool.map(partial('load', ['a.jpg']), [1, 2])
  same<{ width: number; path: string }[]>().as<typeof bound>(true)
  // @ts-expect-error the items have the wrong type
  await pool.map('fib', ['1'])
  // @ts-expect-error the items have the wrong type for the first parameter that is not bound
  await pool.map(partial('load', ['a.jpg']), ['wide'])
  // @ts-expect-error the argument lists have the wrong type
  await pool.starmap('load', [[1]])
  // @ts-expect-error only imap takes an asynchronous input
  await pool.map('fib', (async function* () {})())
}

export async function untyped() {
  const anything = new Pool('localhost:1')
  const value = await anything.apply('whatever', [1, 'two'], { three: 3 })
  value.isAny.and.can.be.used
  await anything.map('whatever', [1, 'two'])
}
