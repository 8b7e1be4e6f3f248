// This file is compiled and never run. A line that must not compile is marked with @ts-expect-error.
import {
  type AsyncResult,
  type FarpoolError,
  type ImapChunks,
  type ImapIterator,
  type ItemOutcome,
  Pool,
  partial,
  type Unsendable,
  type Wire,
} from 'farpool'

function area(side: number): number
function area(width: number, height: number): string
function area(width: number, height?: number): number | string {
  return height === undefined ? width : String(height)
}

// biome-ignore lint/suspicious/noExplicitAny: as the modules of users have it
type Any = any

class Point {
  x = 1
  private secret = 2
  length() {
    return this.x + this.secret
  }
}

const module = {
  fib: (n: number): number => n,
  add: (a: number, b: number): number => a + b,
  sleep: async (_ms: number): Promise<void> => {},
  greet: (name: string, options: { mark?: string; shout?: boolean } = {}): string => name + options.mark,
  resize: (path: string, { width }: { width: number }): string => path + width,
  settings: (options: { depth: number }): number => options.depth,
  load: async (path: string, width?: number): Promise<{ width: number; path: string }> => ({ width: width ?? 0, path }),
  sum: (...numbers: number[]): number => numbers.length,
  tagged: (tag: string, ...numbers: number[]): string => tag + numbers.length,
  identity: <T>(value: T): T => value,
  nothing: (): void => {},
  list: (items: string[]): number => items.length,
  area,
  point: () => new Point(),
  bytes: async () => ({ data: Buffer.from('x'), at: new Date(), tags: new Set<Buffer>() }),
  numbers: function* () {
    yield 1
  },
  tuned: (path: string, width: number, options: Any): string => path + width + options,
  anything: (value: Any): string => String(value),
  labelled: (label: string, ...values: Any[]): string => label + values.length,
  constant: 42,
  Point,
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
  // @ts-expect-error a class is not a function
  await pool.apply('Point')
  // @ts-expect-error the module has no function of the name in the partial
  await pool.map(partial('fob'), [1])
  // @ts-expect-error the module has no function of this name
  await pool.fn.fob(1)
  new Pool<typeof module>('localhost:1', { initializer: 'nothing' })
  // @ts-expect-error a pool has no such option
  new Pool<typeof module>('localhost:1', { timeout: 5 })
}

export async function applying() {
  same<number>().as<Awaited<ReturnType<typeof a>>>(true)
  const a = () => pool.apply('fib', [1])
  const loaded = await pool.apply('load', ['a.jpg'])
  same<{ width: number; path: string }>().as<typeof loaded>(true)
  await pool.apply('load', ['a.jpg', 3])
  await pool.apply('nothing')
  await pool.apply('nothing', [], undefined, { timeout: 5 })
  const result: AsyncResult<string> = pool.applyAsync('greet', ['Ada'], undefined, { callback: (text: string) => text })
  same<string>().as<Awaited<typeof result>>(true)
  // @ts-expect-error the argument has the wrong type
  await pool.apply('fib', ['1'])
  // @ts-expect-error there is one argument too many
  await pool.apply('fib', [1, 2])
  // @ts-expect-error an argument is missing
  await pool.apply('add', [1])
  // @ts-expect-error all arguments are missing
  await pool.apply('add')
  // @ts-expect-error the second argument has the wrong type
  await pool.apply('load', ['a.jpg', 'wide'])
  // @ts-expect-error the callback takes another type of result
  pool.applyAsync('fib', [1], undefined, { callback: (text: string) => text })
  // @ts-expect-error there is no such option
  pool.apply('fib', [1], undefined, { timeOut: 5 })
}

export async function keywords() {
  await pool.apply('greet', ['Ada'], { mark: '!' })
  await pool.apply('greet', ['Ada', { mark: '!' }], undefined, { timeout: 5 })
  await pool.apply('resize', ['a.jpg'], { width: 5 })
  await pool.apply('resize', ['a.jpg', { width: 5 }])
  await pool.apply('settings', [], { depth: 1 })
  await pool.apply('settings', undefined, { depth: 1 })
  // @ts-expect-error the function takes no keyword arguments: this is no option of the call
  await pool.apply('sleep', [1500], { timeout: 200 })
  // @ts-expect-error the function has no such keyword argument
  await pool.apply('greet', ['x'], { shuot: true })
  // @ts-expect-error a keyword argument is missing
  await pool.apply('resize', ['a.jpg'], {})
  // @ts-expect-error the keyword arguments are missing
  await pool.apply('resize', ['a.jpg'])
  // @ts-expect-error an array is not an object of keyword arguments
  await pool.apply('list', [], ['a'])
}

export async function handles() {
  const n: AsyncResult<number> = pool.fn.fib(30)
  same<number>().as<Awaited<typeof n>>(true)
  same<Parameters<typeof module.greet>>().as<Parameters<typeof pool.fn.greet>>(true)
  const loaded = await pool.with({ timeout: 5000, retries: 2 }).fn.load('a.jpg')
  same<{ width: number; path: string }>().as<typeof loaded>(true)
  await pool.fn.sum(1, 2, 3)
  await pool.fn.tagged('a', 1, 2)
  const side: AsyncResult<number> = pool.fn.area(1)
  const text: AsyncResult<string> = pool.fn.area(1, 2)
  await Promise.all([side, text])
  // @ts-expect-error the argument has the wrong type
  pool.fn.fib('30')
  // @ts-expect-error an argument is missing
  pool.fn.add(1)
  // @ts-expect-error neither overload takes this
  pool.fn.area('1')
  // @ts-expect-error the module has no such keyword argument
  pool.fn.greet('x', { shuot: true })
  // @ts-expect-error a view has no such option
  pool.with({ processes: 2 })
  // @ts-expect-error a view cannot end the pool
  pool.with({ timeout: 5 }).terminate()
}

export async function shapesOfFunctions() {
  await pool.apply('sum', [1, 2, 3])
  await pool.apply('sum')
  await pool.apply('tagged', ['a', 1, 2])
  await pool.map('sum', [1, 2])
  await pool.map('load', ['a.jpg'])
  await pool.map('identity', [1, 'two'])
  await pool.map('area', [1])
  await pool.apply('area', [1, 2])
  same<unknown>().as<Awaited<ReturnType<typeof identity>>>(true)
  const identity = () => pool.apply('identity', [1])
  same<number | string>().as<Awaited<ReturnType<typeof overloaded>>>(true)
  const overloaded = () => pool.apply('area', [1])
  // @ts-expect-error the rest has another type
  await pool.apply('sum', [1, '2'])
  // @ts-expect-error neither overload takes this
  await pool.apply('area', ['1'])
  // @ts-expect-error the first argument is missing
  await pool.apply('tagged')
}

export async function oneParameterOfAnyType() {
  await pool.apply('tuned', ['a.jpg', 5, { x: 1 }])
  await pool.apply('tuned', ['a.jpg', 5], { x: 1 })
  await pool.apply('anything', [{ x: 1 }])
  await pool.apply('anything', [], { x: 1 })
  await pool.apply('labelled', ['a'])
  await pool.apply('labelled', ['a', 1, 'two'])
  await pool.map('anything', [1, 'two'])
  // @ts-expect-error another argument has the wrong type
  await pool.apply('tuned', ['a.jpg', '5', {}])
  // @ts-expect-error another argument is missing
  await pool.apply('tuned', ['a.jpg'], {})
  // @ts-expect-error all arguments are missing
  await pool.apply('tuned')
  // @ts-expect-error the argument is missing
  await pool.apply('anything')
  // @ts-expect-error the first argument is missing
  await pool.apply('labelled')
  // @ts-expect-error the first argument has the wrong type
  await pool.apply('labelled', [1])
}

export async function defaultExports() {
  const twice = (n: number): number => 2 * n
  const name = (n: number): string => String(n)
  const object = new Pool<{ default: { twice: typeof twice; rate: number }; name: typeof name }>('localhost:1')
  const four: number = await object.fn.twice(2)
  const text: string = await object.apply('name', [four])
  await object.map('twice', [text.length])
  // @ts-expect-error the argument has the wrong type
  await object.apply('twice', ['2'])
  // @ts-expect-error this property of the default export is no function
  await object.apply('rate')
  // @ts-expect-error the default export is no function
  await object.apply('default')
  class Tools {
    static twice = twice
    name = name
  }
  const withClass = new Pool<{ default: typeof Tools }>('localhost:1')
  await withClass.fn.twice(2)
  // @ts-expect-error a method of the objects of a class is no function of the module
  await withClass.apply('name', [2])
  const withFunction = new Pool<{ default: typeof twice & { name2: typeof name } }>('localhost:1')
  same<number>().as<Awaited<ReturnType<typeof withFunction.fn.default>>>(true)
  same<string>().as<Awaited<ReturnType<typeof withFunction.fn.name2>>>(true)
  const compiled = new Pool<{ default: { default: { twice: typeof twice }; name: typeof name }; name: typeof name }>(
    'localhost:1',
  )
  await compiled.fn.twice(await compiled.fn.name(1).then(Number))
  // For equal names the export counts, and not the property of the default export.
  const both = new Pool<{ default: { twice: typeof name }; twice: typeof twice }>('localhost:1')
  same<number>().as<Awaited<ReturnType<typeof both.fn.twice>>>(true)
  const untypedDefault = new Pool<{ default: Any; twice: typeof twice }>('localhost:1')
  // @ts-expect-error the argument has the wrong type
  await untypedDefault.apply('twice', ['2'])
}

export async function arriving() {
  const point = await pool.fn.point()
  same<{ x: number }>().as<typeof point>(true)
  const { data, at, tags } = await pool.fn.bytes()
  same<Uint8Array>().as<typeof data>(true)
  same<Date>().as<typeof at>(true)
  same<Set<Uint8Array>>().as<typeof tags>(true)
  // @ts-expect-error bytes arrive as a Uint8Array, not as a Buffer
  data.readUInt8(0)
  // @ts-expect-error an object arrives without its methods
  point.length()
  const numbers = await pool.fn.numbers()
  same<Unsendable<'an iterator'>>().as<typeof numbers>(true)
  same<[number, Uint8Array?]>().as<Wire<readonly [number, Buffer?]>>(true)
  same<{ a: string; b?: bigint[] }>().as<Wire<{ a: string; b?: bigint[] }>>(true)
  type Json = string | number | boolean | null | Json[] | { [name: string]: Json }
  same<Json>().as<Wire<Json>>(true)
  same<Map<string, Float64Array>>().as<Wire<Map<string, Float64Array>>>(true)
  same<{ message: string; name: string }>().as<Wire<{ message: string; name: string }>>(true)
  same<Unsendable<'a promise'>>().as<Wire<{ later: Promise<number> }>['later']>(true)
}

export async function mapping() {
  const squares = await pool.map('fib', [1, 2, 3])
  same<number[]>().as<typeof squares>(true)
  const outcomes = await pool.map('fib', new Set([1]), { settle: true })
  same<PromiseSettledResult<number>[]>().as<typeof outcomes>(true)
  const widths = await pool.starmap('load', [['a.jpg'], ['b.jpg', 2]])
  same<{ width: number; path: string }[]>().as<typeof widths>(true)
  await pool.starmap('add', [
    [1, 2],
    [3, 4],
  ])
  const iterator: ImapIterator<string> = pool.imap('greet', ['a', 'b'])
  for await (const text of iterator) same<string>().as<typeof text>(true)
  const chunks: ImapChunks<string> = iterator.chunks()
  for await (const texts of chunks) same<string[]>().as<typeof texts>(true)
  same<IteratorResult<string[], undefined>>().as<Awaited<ReturnType<typeof chunks.next>>>(true)
  for await (const outcome of pool.imapUnordered('fib', [1], { settle: true, timeout: 5 })) {
    same<ItemOutcome<number>>().as<typeof outcome>(true)
    if (outcome.status === 'fulfilled') same<number>().as<typeof outcome.value>(true)
  }
  const bound = await pool.map(partial('load', ['a.jpg']), [1, 2])
  same<{ width: number; path: string }[]>().as<typeof bound>(true)
  await pool.map(partial('add', [1]), [1, 2])
  await pool.apply(partial('resize', ['a.jpg'], { width: 5 }))
  // @ts-expect-error the items have the wrong type
  await pool.map('fib', ['1'])
  // @ts-expect-error the function needs two arguments
  await pool.map('add', [1, 2])
  // @ts-expect-error the items have the wrong type for the first parameter that is not bound
  await pool.map(partial('load', ['a.jpg']), ['wide'])
  // @ts-expect-error the argument lists have the wrong type
  await pool.starmap('load', [[1]])
  // @ts-expect-error an argument list is too short
  await pool.starmap('add', [[1]])
  // @ts-expect-error only imap takes an asynchronous input
  await pool.map('fib', (async function* () {})())
}

export function events() {
  const target: EventTarget = pool.events
  pool.events.addEventListener('workerExited', ({ detail }) => same<number>().as<typeof detail.pid>(true), {
    once: true,
  })
  const listener = { handleEvent: (event: CustomEvent<FarpoolError>) => event.detail.reason }
  pool.events.addEventListener('disconnected', listener)
  pool.events.removeEventListener('disconnected', listener)
  // @ts-expect-error a pool has no such event
  pool.events.addEventListener('exited', () => {})
  return target
}

export async function untyped() {
  const anything = new Pool('localhost:1')
  const value = await anything.apply('whatever', [1, 'two'], { three: 3 })
  value.isAny.and.can.be.used
  await anything.map('whatever', [1, 'two'])
  const handle = await anything.fn.whatever(1, 'two')
  handle.isAny.and.can.be.used
  const any = new Pool<Any>('localhost:1')
  await any.apply('whatever', [1, 'two'], { three: 3 })
  await any.fn.whatever(1)
}
