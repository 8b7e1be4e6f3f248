import { dirname, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import type { ServeConfig, ServeOptions, SharedPoolOptions } from '../server/config.js'
import {
  environmentName,
  OPTION_KEYS,
  OPTIONS,
  type OptionKey,
  type OptionSpec,
  POOL_KEYS,
  specOf,
} from '../server/option-table.js'
import { readYaml } from '../server/read-yaml.js'
import { bad, checkNames, inPool, isObject, type OptionLabel, SECRET } from '../server/resolve-config.js'

/** The options of a server as the command line, the environment and a file give them, in this order. */
export interface Configuration {
  readonly options: ServeOptions
  /** Names an option in a message, by the place that gave it. */
  readonly label: OptionLabel
}

/** Options that exclude each other. */
const RIVALS: Partial<Record<OptionKey, OptionKey>> = { initargs: 'initargsFile', initargsFile: 'initargs' }

/** Adds the options of a server to a command. */
export function addServerOptions(command: Command): Command {
  for (const key of OPTION_KEYS) addOption(command, specOf(key))
  return command.addOption(
    new Option(
      '-c, --config <file>',
      'a YAML file with these options, without the hyphens in front, the modules, and pools',
    ).env('FARPOOL_CONFIG'),
  )
}

/** A boolean also gets a `--no-…`, because the command line must be able to undo what a file says. */
export function addOption(command: Command, spec: OptionSpec): Command {
  const { name, short, value, about, schema } = spec
  const words = 'default' in spec ? String(spec.default) : spec.defaultWords
  const flags = `${short ? `-${short}, ` : ''}--${name}${value ? ` ${value}` : ''}`
  const option = new Option(flags, `${about}${words === undefined ? '' : ` (default: ${words})`}`)
  option.env(environmentName(name))
  if ('options' in schema) option.argChoices = [...(schema.options as readonly string[])]
  command.addOption(option)
  return value ? command : command.addOption(new Option(`--no-${name}`).hideHelp())
}

interface Given {
  readonly value: unknown
  readonly label: string
}

/** What the command line or the environment says; undefined if they say nothing. */
export function givenFor(command: Command, spec: OptionSpec): Given | undefined {
  const key = attributeOf(spec.name)
  const source = command.getOptionValueSource(key)
  if (source === 'cli') {
    const value: unknown = command.getOptionValue(key)
    return fromText(spec, value, `--${value === false ? 'no-' : ''}${spec.name}`)
  }
  // Commander takes any value of a boolean's variable for true.
  const name = environmentName(spec.name)
  return source === 'env' ? fromText(spec, process.env[name], name) : undefined
}

/** @throws Failure BAD_REQUEST if the file cannot be read, or has a key that is no option. */
export async function readConfiguration(modules: readonly string[], command: Command): Promise<Configuration> {
  const path: string | undefined = command.getOptionValue('config')
  const file = path === undefined ? {} : await fileOptions(path)
  const options: Record<string, unknown> = { ...file, ...(modules.length > 0 && { modules }) }
  const labels = new Map<string, string>(modules.length > 0 ? [['modules', 'the command line']] : [])
  for (const key of OPTION_KEYS) {
    const given = givenFor(command, specOf(key))
    if (given) {
      options[key] = given.value
      labels.set(key, given.label)
    }
    // What excludes it, and comes from a lower place, is not meant.
    const rival = RIVALS[key]
    if (given && rival && !labels.has(rival)) delete options[rival]
    if (specOf(key).isSecret) delete process.env[environmentName(specOf(key).name)]
  }
  const inFile = (name: string) => `${name} in ${path}`
  const label: OptionLabel = (key, pool) => {
    const name = key === 'modules' || key === 'pools' ? key : specOf(key).name
    if (pool !== undefined) return inFile(inPool(name, pool))
    return labels.get(key) ?? (file[key] !== undefined ? inFile(name) : name)
  }
  return { options: options as unknown as ServeOptions, label }
}

/** The value of an option that was given as text. What cannot be read stays a text, which its schema refuses. */
function fromText({ schema, isSecret }: OptionSpec, value: unknown, label: string): Given {
  if (typeof value !== 'string') return { value, label }
  const number = value.trim() === '' ? Number.NaN : Number(value)
  switch (schema.type) {
    case 'boolean':
      if (!['true', 'false', '1', '0'].includes(value)) bad(label, value, 'must be true, false, 1 or 0')
      return { value: value === 'true' || value === '1', label }
    case 'number':
      return { value: Number.isNaN(number) ? value : number, label }
    case 'array':
      return { value: isSecret ? parsed(value) : value.split(','), label }
    default:
      return { value, label }
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

const attributeOf = (name: string): string => name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())

/** The options of a configuration file, by their keys in ServeOptions. Relative paths are relative to the file. */
async function fileOptions(path: string): Promise<Record<string, unknown>> {
  const content = await readYaml(path)
  const { pools, ...own } = content
  const named = isObject(pools)
    ? Object.fromEntries(
        Object.entries(pools).map(([name, pool]) => [
          name,
          isObject(pool) ? byKey(pool, path, `pools.${name}: `, POOL_KEYS) : pool,
        ]),
      )
    : pools
  return { ...byKey(own, path, '', OPTION_KEYS), ...(pools !== undefined && { pools: named }) }
}

function byKey(
  content: object,
  path: string,
  where: string,
  keys: readonly OptionKey[],
): Partial<Record<keyof SharedPoolOptions, unknown>> {
  const known = [...keys.map((key) => specOf(key).name), 'modules', ...(where === '' ? ['pools'] : [])]
  checkNames(content, known, `${path}: ${where}`)
  const folder = dirname(path)
  const inFolder = (value: unknown) =>
    typeof value === 'string' && !value.startsWith('file:') ? resolve(folder, value) : value
  return Object.fromEntries(
    Object.entries(content).map(([name, value]) => {
      if (name === 'modules') return [name, Array.isArray(value) ? value.map(inFolder) : value]
      const key = keys.find((key) => specOf(key).name === name) ?? name
      return [key, (OPTIONS as Record<string, OptionSpec>)[key]?.isPath ? inFolder(value) : value]
    }),
  )
}

/** The configuration as a YAML file, with the source of each value. */
export function printedConfig(config: ServeConfig, { options, label }: Configuration): string {
  const lines = [line('modules', config.modules, label('modules'))]
  for (const key of OPTION_KEYS) {
    const spec = specOf(key)
    const value = (config as unknown as Record<string, unknown>)[key]
    const isGiven = options[key] !== undefined
    if (value === undefined || (!isGiven && spec.defaultWords === 'none'))
      lines.push(`# ${spec.name}: ${spec.defaultWords}`)
    else lines.push(line(spec.name, spec.isSecret ? SECRET : value, isGiven ? label(key) : 'default'))
  }
  if (config.pools.size > 1) lines.push('pools:')
  for (const [name, pool] of Object.entries(options.pools ?? {})) {
    lines.push(`  ${JSON.stringify(name)}:`, `    modules: ${JSON.stringify(config.pools.get(name)?.modules)}`)
    for (const [key, value] of Object.entries(pool)) {
      if (key === 'modules') continue
      const spec = specOf(key as OptionKey)
      lines.push(`    ${spec.name}: ${JSON.stringify(spec.isSecret ? SECRET : value)}`)
    }
  }
  return `${lines.join('\n')}\n`
}

const line = (name: string, value: unknown, source: string): string => `${name}: ${JSON.stringify(value)} # ${source}`
