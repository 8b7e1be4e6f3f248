import { Argument, Command, type Option } from 'commander'
import { Pool } from '../client/index.js'
import { printableLine } from '../wire/printable.js'
import { connectionOf, functionArgument, optionsIn, poolCommand } from './command-options.js'
import { print } from './output.js'

/** How long a completion waits for the names of functions, in milliseconds: somebody has pressed a key. */
const ASK_MS = 500

/** The script of each shell asks `farpool __complete` for each completion, and falls back to the names of files. */
const SCRIPTS = {
  bash: `# bash completion of farpool: source it, for example from ~/.bashrc
_farpool() {
  local IFS=$'\\n'
  COMPREPLY=($(farpool __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1))
}
complete -o default -F _farpool farpool
`,
  zsh: `#compdef farpool
# zsh completion of farpool: source it after compinit, or save it as _farpool in a folder of $fpath
_farpool() {
  local -a found
  found=("\${(@f)$(farpool __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null | sed 's/:/\\\\:/g; s/\\t/:/')}")
  if [[ -n $found ]]; then _describe farpool found; else _files; fi
}
if [[ $funcstack[1] = _farpool ]]; then _farpool "$@"; else compdef _farpool farpool; fi
`,
  fish: `# fish completion of farpool: save it as ~/.config/fish/completions/farpool.fish
function __farpool_complete
  set -l words (commandline -opc) (commandline -ct)
  farpool __complete -- $words[2..-1] 2>/dev/null
end
complete -c farpool -a '(__farpool_complete)'
`,
}

/** farpool completion: prints the script that a shell needs to complete command lines of farpool. */
export const completionCommand = () =>
  new Command('completion')
    .description('print a script that completes command lines: source <(farpool completion bash)')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(SCRIPTS)))
    .action((shell: keyof typeof SCRIPTS) => print(SCRIPTS[shell]))

/**
 * farpool __complete: what the last of the words can be completed to, one to a line, followed by a tab and its description.
 * Prints nothing where the name of a file is wanted.
 */
export const completeCommand = () =>
  new Command('__complete')
    .argument('[words...]', 'the words behind farpool, up to the one that is being written')
    .action(async (words: string[], _options: unknown, command: Command) => {
      const found = await candidates(command.parent ?? command, words)
      await print(found.map(({ word, about = '' }) => `${word}\t${printableLine(about)}\n`).join(''))
    })

interface Candidate {
  readonly word: string
  readonly about?: string
}

async function candidates(program: Command, words: readonly string[]): Promise<Candidate[]> {
  const current = words.at(-1) ?? ''
  const found = await anyOf(program, words.slice(0, -1), current)
  return found.filter(({ word }) => word.startsWith(current))
}

/** @param before the words before the one that is being written. */
async function anyOf(program: Command, before: readonly string[], current: string): Promise<Candidate[]> {
  const command = program.commands.find((known) => known.name() === before[0])
  if (!command) return before.length > 0 ? [] : [...commandsOf(program), ...optionsOf(program, current)]
  if (command.commands.length > 0) return anyOf(command, before.slice(1), current)
  const { values, option } = positionals(command, before.slice(1))
  if (option) return (option.argChoices ?? []).map((word) => ({ word }))
  if (current.startsWith('-')) return optionsOf(command, current)
  const argument = command.registeredArguments[values]
  if (argument?.argChoices) return argument.argChoices.map((word) => ({ word }))
  return argument?.name() === functionArgument().name() ? functionsOf(before) : []
}

/** How many of the words are no options and no values of options, and the option whose value comes next. */
function positionals(command: Command, words: readonly string[]): { values: number; option: Option | undefined } {
  let values = 0
  let option: Option | undefined
  for (const word of words) {
    if (option) option = undefined
    else if (word.startsWith('-') && word !== '-') {
      option = command.options.find(({ short, long, required }) => required && (short === word || long === word))
    } else values++
  }
  return { values, option }
}

const commandsOf = (program: Command): Candidate[] =>
  program
    .createHelp()
    .visibleCommands(program)
    .map((command) => ({ word: command.name(), about: command.description() }))

/** Long ones, or also the short ones where nothing but a dash has been written. */
const optionsOf = (command: Command, current: string): Candidate[] =>
  command
    .createHelp()
    .visibleOptions(command)
    .flatMap(({ short, long, description: about }) => {
      const words = current === '-' ? [short, long] : [long]
      return words.flatMap((word) => (word ? [{ word, about }] : []))
    })

/**
 * The names on the server that the words name, if it answers quickly. A name that means something to a shell is left out: it
 * is somebody else's.
 */
async function functionsOf(words: readonly string[]): Promise<Candidate[]> {
  const command = poolCommand()
  try {
    const { address } = optionsIn(command, words)
    await using pool = new Pool(String(address), connectionOf(command))
    const late = new Promise<never>((_, reject) => setTimeout(reject, ASK_MS, new Error('late')).unref())
    const functions = await Promise.race([pool.functions(), late])
    return functions
      .filter(({ name }) => /^[\w.]+$/.test(name))
      .map(({ name, module }) => ({ word: name, about: module }))
  } catch {
    return []
  }
}
