import nodeModule from 'node:module'
import { basename, isAbsolute } from 'node:path'
import { pathToFileURL } from 'node:url'
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
 * Loads modules (ES, CommonJS, and TypeScript if this Node can) and collects the functions that they export, by name.
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
    for (const [name, call] of found) {
      const other = functions.get(name)
      if (other)
        throw loadFailure(module, `exports ${JSON.stringify(name)}, which ${other.module} exports too; rename one`)
      functions.set(name, { call, module, options: checkedOptions(name, call, module) })
    }
  }
  return functions
}

async function load(module: string, stacks: boolean): Promise<object> {
  if (/\.[cm]?ts$/.test(module) && !('typescript' in process.features && process.features.typescript)) {
    const why = `is TypeScript, which Node ${process.version} does not load; use Node 22.18 or newer, or compile it first`
    throw loadFailure(module, why)
  }
  try {
    return (await import(isAbsolute(module) ? pathToFileURL(module).href : module)) as object
  } catch (error) {
    const { type, message, stack } = describeThrown(error, { stacks, kind: 'cbor' })
    const trace = stack === '' ? '' : `\n${stack.split('\n').slice(0, 8).join('\n')}`
    const place = placeOf(error, module)
    throw loadFailure(module, `cannot be loaded: ${type}: ${message}${place && ` (${place})`}${trace}`)
  }
}

function checkedOptions(name: string, call: UserFunction, module: string): ReturnType<typeof optionsOf> {
  try {
    return optionsOf(call)
  } catch (error) {
    throw loadFailure(module, `exports ${JSON.stringify(name)}, but ${(error as Error).message}`)
  }
}

/** The exported functions. Classes are left out, because they cannot be called without `new`. */
function exportedFunctions(namespace: object): Map<string, UserFunction> {
  const found = new Map<string, UserFunction>()
  const collect = (exports: object): void => {
    for (const [name, value] of Object.entries(exports)) {
      if (name !== 'module.exports' && isFunction(value) && !found.has(name)) found.set(name, value)
    }
  }
  collect(namespace)
  // The exports of a CommonJS module are its `default`. Names that Node could not detect in its source are only there.
  const exported: unknown = 'default' in namespace ? namespace.default : undefined
  if (typeof exported === 'object' && exported !== null) collect(exported)
  return found
}

const isFunction = (value: unknown): value is UserFunction =>
  typeof value === 'function' && !Function.prototype.toString.call(value).startsWith('class')

const loadFailure = (module: string, why: string) =>
  new Failure('MODULE_LOAD_FAILED', `module ${module} ${why}`, { metadata: { module: basename(module) } })
