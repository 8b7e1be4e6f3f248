import nodeModule from 'node:module'
import { basename, isAbsolute } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Failure } from '../wire/failure.js'
import { optionsOf } from './configure.js'
import { describe } from './describe-error.js'

// biome-ignore lint/suspicious/noExplicitAny: what a user's function takes and returns is the user's
export type UserFunction = (...args: any[]) => unknown

export interface LoadedFunction {
  readonly call: UserFunction
  readonly module: string
  readonly options: ReturnType<typeof optionsOf>
}

/**
 * Loads modules (ES, CommonJS, and TypeScript where this Node can) and collects what they export by name.
 * Throws MODULE_LOAD_FAILED where a module cannot be loaded, exports no function, or exports a name twice.
 */
export async function loadFunctions(modules: readonly string[], stacks: boolean): Promise<Map<string, LoadedFunction>> {
  // Where this Node has it (22.8): the modules are compiled for the first worker, and read by the others.
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
    const { type, message, stack } = describe(error, stacks)
    const place = stack === '' ? '' : `\n${stack.split('\n').slice(0, 8).join('\n')}`
    throw loadFailure(module, `cannot be loaded: ${type}: ${message}${place}`)
  }
}

function checkedOptions(name: string, call: UserFunction, module: string): ReturnType<typeof optionsOf> {
  try {
    return optionsOf(call)
  } catch (error) {
    throw loadFailure(module, `exports ${JSON.stringify(name)}, but ${(error as Error).message}`)
  }
}

/** Own exports that can be called; classes cannot be called without `new`. */
function exportedFunctions(namespace: object): Map<string, UserFunction> {
  const found = new Map<string, UserFunction>()
  const collect = (exports: object) => {
    for (const [name, value] of Object.entries(exports)) {
      if (name !== 'module.exports' && isFunction(value) && !found.has(name)) found.set(name, value)
    }
  }
  collect(namespace)
  // A CommonJS module's exports are what its namespace calls `default`; names that Node could not foresee are only there.
  const exported: unknown = 'default' in namespace ? namespace.default : undefined
  if (typeof exported === 'object' && exported !== null) collect(exported)
  return found
}

const isFunction = (value: unknown): value is UserFunction =>
  typeof value === 'function' && !Function.prototype.toString.call(value).startsWith('class')

const loadFailure = (module: string, why: string) =>
  new Failure('MODULE_LOAD_FAILED', `module ${module} ${why}`, { metadata: { module: basename(module) } })
