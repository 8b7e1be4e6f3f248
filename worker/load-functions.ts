import nodeModule from 'node:module'
import { basename, extname, isAbsolute } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { RemoteError } from '../proto/gen/farpool/routing/v1/routing.js'
import { Failure } from '../wire/failure.js'
import { optionsOf } from './configure.js'
import { describeThrown } from './describe-error.js'
import { placeOf } from './syntax-error.js'

// biome-ignore lint/suspicious/noExplicitAny: the user decides which parameters a function has
export type UserFunction = (...args: any[]) => unknown

export interface LoadedFunction {
  readonly call: UserFunction
  readonly module: string
  readonly options: ReturnType<typeof optionsOf>
}

/**
 * Loads modules (ES, CommonJS, and TypeScript if this Node or a loader can) and collects the functions that they export, by
 * name.
 * @throws Failure MODULE_LOAD_FAILED if a module cannot be loaded or exports no function, if two modules export the same
 * name, or if the options of a function are not valid.
 */
export async function loadFunctions(modules: readonly string[], stacks: boolean): Promise<Map<string, LoadedFunction>> {
  // From Node 22.8 on: the first worker compiles the modules, the others read the compiled code.
  if ('enableCompileCache' in nodeModule) (nodeModule.enableCompileCache as () => void)()
  const functions = new Map<string, LoadedFunction>()
  for (const module of modules) {
    const found = exportedFunctions(await load(module, stacks))
    if (found.size === 0) throw loadFailure(module, 'exports no function; export at least one by name')
    for (const [name, { fn, owner }] of found) {
      const other = functions.get(name)
      if (other)
        throw loadFailure(module, `exports ${JSON.stringify(name)}, which ${other.module} exports too; rename one`)
      const call = owner === undefined ? fn : (Function.prototype.bind.call(fn, owner) as UserFunction)
      functions.set(name, { call, module, options: checkedOptions(name, fn, module) })
    }
  }
  return functions
}

const TYPESCRIPT = /\.[cm]?tsx?\b/

async function load(module: string, stacks: boolean): Promise<object> {
  try {
    return await importModule(module)
  } catch (error) {
    const remote = describeThrown(error, { stacks, kind: 'cbor' })
    const { type, message, stack, code } = remote
    if (code === 'ERR_UNKNOWN_FILE_EXTENSION' && TYPESCRIPT.test(message)) {
      const what = TYPESCRIPT.test(module) ? 'is TypeScript' : 'imports TypeScript'
      const loader = 'use Node 22.18 or newer, start it with a loader (node --import tsx), or compile it first'
      throw loadFailure(module, `${what}, which Node ${process.version} does not load by itself; ${loader}`, remote)
    }
    const trace = stack === '' ? '' : `\n${stack.split('\n').slice(0, 8).join('\n')}`
    const place = placeOf(error, module)
    throw loadFailure(module, `cannot be loaded: ${type}: ${message}${place && ` (${place})`}${trace}`, remote)
  }
}

async function importModule(module: string): Promise<object> {
  try {
    return (await import(isAbsolute(module) ? pathToFileURL(module).href : module)) as object
  } catch (error) {
    // A loader that was given with --require changes only what require() loads.
    const require = nodeModule.createRequire(import.meta.url)
    const isUnknown = (error as NodeJS.ErrnoException | null)?.code === 'ERR_UNKNOWN_FILE_EXTENSION'
    if (!isUnknown || !(extname(module) in require.extensions)) throw error
    return { default: require(module) as unknown }
  }
}

function checkedOptions(name: string, call: UserFunction, module: string): ReturnType<typeof optionsOf> {
  try {
    return optionsOf(call)
  } catch (error) {
    throw loadFailure(module, `exports ${JSON.stringify(name)}, but ${(error as Error).message}`)
  }
}

interface ExportedFunction {
  readonly fn: UserFunction
  /** Its `this`, if it is a property of a default export. */
  readonly owner: object | undefined
}

/**
 * The exported functions, by name: those of the module itself, then those of its default export. That is `module.exports` in
 * a CommonJS module, whose names Node detects only in part, and in one that was compiled from an ES module it has a
 * `default` of its own. An export that is a class is left out, because it cannot be called without `new`; a class that is
 * the default export has its static methods.
 */
function exportedFunctions(namespace: object): Map<string, ExportedFunction> {
  const found = new Map<string, ExportedFunction>()
  const defaults = defaultsOf(namespace)
  for (const [name, value] of propertiesOf(namespace)) {
    if (name === 'module.exports' || !isFunction(value)) continue
    found.set(name, { fn: value, owner: defaults.find((owner) => read(owner, name) === value) })
  }
  for (const owner of defaults) {
    for (const [name, value] of propertiesOf(owner)) {
      if (isFunction(value) && !found.has(name)) found.set(name, { fn: value, owner })
    }
  }
  return found
}

/** The default export, and that of a CommonJS module that was compiled from an ES module. */
function defaultsOf(namespace: object): object[] {
  const outer = read(namespace, 'default')
  const inner = isObject(outer) && read(outer, '__esModule') === true ? read(outer, 'default') : undefined
  return [outer, inner].filter(isObject)
}

/** Own properties with a value. Static methods of a class are not enumerable, other properties of users are. */
function propertiesOf(exports: object): [name: string, value: unknown][] {
  const names = isClass(exports) ? Object.getOwnPropertyNames(exports) : Object.keys(exports)
  return names.map((name) => [name, read(exports, name)])
}

/** A getter that throws has no value. */
function read(exports: object, name: string): unknown {
  try {
    return (exports as Record<string, unknown>)[name]
  } catch {
    return undefined
  }
}

const isObject = (value: unknown): value is object =>
  (typeof value === 'object' || typeof value === 'function') && value !== null

/** `classify(x) {}` and `class(x) {}` are methods. */
const isClass = (value: unknown): boolean =>
  typeof value === 'function' && /^class(?:\{|\/|\s+(?!\())/.test(Function.prototype.toString.call(value))

const isFunction = (value: unknown): value is UserFunction => typeof value === 'function' && !isClass(value)

const loadFailure = (module: string, why: string, remote?: RemoteError) =>
  new Failure('MODULE_LOAD_FAILED', `module ${module} ${why}`, {
    metadata: { module: basename(module) },
    ...(remote && { remote }),
  })
