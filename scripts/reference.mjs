// Writes what the code itself knows into docs/reference: the options of the command line, from commander, and the page of
// the client API, from the declarations of the build. With --check it changes nothing and fails if a page is not fresh.
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { parseAst } from 'rolldown/parseAst'

const path = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url))
const cell = (text) => text.replaceAll('|', '\\|')

// The command line

/** The program of the command line, not run: loading it parses the arguments, unless parsing does nothing. */
async function program() {
  const { parseAsync } = Command.prototype
  const [loaded] = await new Promise((done, fail) => {
    Command.prototype.parseAsync = function () {
      done([this])
      return Promise.resolve(this)
    }
    import('../dist/cli/main.js').catch(fail)
  })
  Command.prototype.parseAsync = parseAsync
  return loaded
}

/** The usage and the options of a command. */
function commandTable(command) {
  const { commandUsage, visibleOptions } = command.createHelp()
  const options = visibleOptions.call(command.createHelp(), command).filter(({ long }) => long !== '--help')
  const rows = options.map((option) => {
    const [, text, inText] = /^(.*?)(?: \(default: (.*)\))?$/.exec(option.description)
    const value =
      option.defaultValueDescription ??
      (option.defaultValue === undefined ? (inText ?? '') : `\`${option.defaultValue}\``)
    const choices = option.argChoices ? `: ${option.argChoices.join(', ')}` : ''
    const env = option.envVar ? ` | \`${option.envVar}\`` : ' |'
    return `| \`${cell(option.flags)}\` | ${cell(text + choices)} | ${cell(value)}${env} |`
  })
  const usage = commandUsage.call(command.createHelp(), command)
  return [
    `\`${usage}\`: ${command.description()}.`,
    '',
    '| option | for | default | environment |',
    '|---|---|---|---|',
    ...rows,
  ].join('\n')
}

/** Replaces the text between the two marks of each command. */
async function cliPage(page) {
  const commands = createVisible(await program())
  return commands.reduce((text, command) => {
    const name = nameOf(command)
    const marked = new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(?=<!-- /${name} -->)`)
    if (!marked.test(text)) throw new Error(`docs/reference/cli.md has no marks for farpool ${name}`)
    return text.replace(marked, (_, mark) => `${mark}${commandTable(command)}\n`)
  }, page)
}

/** With the name of the command that it belongs to, as in `token new`. */
const nameOf = (command) => (command.parent?.parent ? `${command.parent.name()} ` : '') + command.name()

const createVisible = (root) =>
  root
    .createHelp()
    .visibleCommands(root)
    .filter((command) => command.name() !== 'help')
    .flatMap((command) => (command.commands.length > 0 ? createVisible(command) : [command]))

// The client API

/** All declarations of a file by name: a node of its syntax tree, its text, and the comment before it. */
const files = new Map()
function declarationsOf(file) {
  const known = files.get(file)
  if (known) return known
  const code = readFileSync(file, 'utf8')
  const found = { names: new Map(), elsewhere: new Map(), entries: [] }
  files.set(file, found)
  for (const node of parseAst(code, { lang: 'dts' }, file).body) {
    if (node.source) {
      if (!node.source.value.startsWith('.')) continue
      const source = resolve(dirname(file), node.source.value.replace(/\.js$/, '.d.ts'))
      for (const { local, exported } of node.specifiers ?? []) {
        found.elsewhere.set(local.name, source)
        if (exported) found.entries.push({ name: exported.name, source })
      }
      continue
    }
    const declared = node.declaration ?? node
    const name = declared.id?.name
    if (name === undefined) continue
    const before = found.names.get(name)
    const text = textOf(code, node).replace(/^export (declare )?/, '')
    if (before) {
      before.overloads.push(text)
      before.nodes.push(declared)
    } else {
      found.names.set(name, {
        file,
        code,
        node: declared,
        nodes: [declared],
        doc: docOf(code, node),
        overloads: [text],
      })
    }
  }
  return found
}

const textOf = (code, { start, end }) => code.slice(start, end).replace(/;$/, '')

/** The comment before a node, without its stars. */
function docOf(code, { start }) {
  const [, comment = ''] = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*$/.exec(code.slice(0, start)) ?? []
  return comment.replaceAll(/^\s*\* ?/gm, '').trim()
}

function find(name, file) {
  const { names, elsewhere } = declarationsOf(file)
  const source = elsewhere.get(name)
  return names.get(name) ?? (source && find(name, source))
}

/** A comment as Markdown: pages of docs/ are links, and tags are lines of a list. */
function prose(doc) {
  const [text = '', ...tags] = doc.split(/^(?=@)|(?<=\. )(?=@throws)/m)
  const lines = tags.map((tag) =>
    flow(tag)
      .replace(/^@throws (\w+)/, '- throws `$1`')
      .replace(/^@param (\w+)/, '- `$1`:'),
  )
  return [paragraphs(text), lines.join('\n')].filter(Boolean).join('\n\n')
}
const flow = (text) => linked(text.trim().replaceAll(/\s*\n\s*/g, ' '))
const linked = (text) => text.replaceAll(/docs\/reference\/(\w+\.md)/g, '[$1]($1)')
/** Indented lines of a comment are code. */
const paragraphs = (text) =>
  text
    .split(/\n\s*\n/)
    .map((part) => (/^ {4}/.test(part) ? declaration(part.replaceAll(/^ {4}/gm, '')) : flow(part)))
    .filter(Boolean)
    .join('\n\n')

const declaration = (text) => `\`\`\`ts not run: a declaration\n${text.trim()}\n\`\`\``

const isPublic = (code, member) =>
  member.accessibility !== 'private' &&
  member.key?.type !== 'PrivateIdentifier' &&
  !docOf(code, member).startsWith('@internal')

/** The members of a class or an interface, those of one name together. */
function members({ code, node }) {
  const byName = new Map()
  for (const member of node.body.body) {
    if (!isPublic(code, member)) continue
    const name = member.computed || !member.key ? '' : (member.key.name ?? member.key.value)
    const before = byName.get(name)
    if (before) before.texts.push(textOf(code, member))
    else byName.set(name, { name, member, doc: docOf(code, member), texts: [textOf(code, member)] })
  }
  byName.delete('')
  return [...byName.values()]
}

/** The properties of an interface and of those that it extends; its own come first. */
function properties({ file, code, node }) {
  if (node.type === 'TSTypeAliasDeclaration') {
    return node.typeAnnotation.types.flatMap((type) => properties(find(type.typeName.name, file)))
  }
  const own = members({ code, node }).map(({ name, member, doc }) => ({
    name,
    isOptional: member.optional,
    type: member.typeAnnotation ? textOf(code, member.typeAnnotation.typeAnnotation).replaceAll(/\s+/g, ' ') : '',
    doc,
  }))
  const bases = node.extends.map(({ expression }) => find(expression.name, file)).filter(Boolean)
  const inherited = bases.flatMap(properties)
  return [...own, ...inherited.filter(({ name }) => !own.some((property) => property.name === name))]
}

/** Says which properties are required where some are not. */
function table(rows) {
  const required = ({ isOptional }) => (isOptional || rows.every((row) => !row.isOptional) ? '' : ' (required)')
  const lines = rows.map(
    (row) => `| \`${row.name}\`${required(row)} | \`${cell(row.type)}\` | ${cell(flow(row.doc))} |`,
  )
  return ['| name | type | |', '|---|---|---|', ...lines].join('\n')
}

const isMethod = ({ type }) => /Method/.test(type)

function section(name, found) {
  const { code, node, doc, overloads } = found
  const parts = [`### ${name}`, prose(doc)]
  if (/Interface/.test(node.type) && !node.body.body.some(isMethod)) parts.push(table(properties(found)))
  else if (/Class|Interface/.test(node.type)) {
    parts.push(declaration(code.slice(node.start, node.body.start).replace(/^declare /, '')))
    for (const member of members(found)) {
      parts.push(`#### ${name}: ${member.name}`, declaration(member.texts.join('\n')), prose(member.doc))
    }
  } else if (node.typeAnnotation?.type === 'TSIntersectionType') parts.push(table(properties(found)))
  else if (/Function/.test(node.type) || overloads[0].length < 250) parts.push(declaration(overloads.join('\n')))
  return parts.filter(Boolean).join('\n\n')
}

const ENTRIES = {
  farpool: {
    file: 'dist/client/index.d.ts',
    first: ['Pool', 'Caller', 'AsyncResult', 'ImapIterator', 'ImapChunks', 'partial'],
  },
  'farpool/worker': { file: 'dist/worker/index.d.ts', first: [] },
  'farpool/server': { file: 'dist/server/index.d.ts', first: [] },
}

const HEAD = `# The API of the client, of workers and of servers

\`npm run reference\` makes this page from the comments of the code. All times are in milliseconds. The calls of a pool are those
of [Caller](#caller); how values travel is in [values.md](values.md), and what can fail in [errors.md](errors.md).`

/** What an entry exports. */
function exportsOf(file) {
  const { entries, names } = declarationsOf(path(file))
  return [...entries, ...[...names.keys()].map((name) => ({ name, source: path(file) }))]
}

/** The names of types in the public part of a declaration. Types that are computed from their parameters are left out. */
function mentioned({ code, nodes }) {
  const visit = (node) => {
    if (Array.isArray(node)) return node.flatMap(visit)
    if (typeof node?.type !== 'string') return []
    if (node.type === 'TSTypeAliasDeclaration' && node.typeParameters) return []
    const isMember = /^(TS)?(PropertyDefinition|MethodDefinition|PropertySignature|MethodSignature|Abstract\w+)$/.test(
      node.type,
    )
    if (isMember && !isPublic(code, node)) return []
    const name = { TSTypeReference: node.typeName, TSInterfaceHeritage: node.expression }[node.type] ?? node.superClass
    return [...(name?.type === 'Identifier' ? [name.name] : []), ...Object.values(node).flatMap(visit)]
  }
  return nodes.flatMap(visit)
}

/** Types of this package that users meet in what an entry exports, but cannot name. */
function forgotten() {
  return Object.entries(ENTRIES).flatMap(([entry, { file }]) => {
    const all = exportsOf(file)
    return all.flatMap(({ name, source }) => {
      const found = find(name, source)
      const missing = mentioned(found).filter((type) => find(type, found.file) && !all.some((one) => one.name === type))
      return missing.map((type) => `${entry} exports ${name}, but not ${type}, which it mentions`)
    })
  })
}

function apiPage() {
  const parts = Object.entries(ENTRIES).flatMap(([entry, { file, first }]) => {
    const order = ({ name }) => (first.includes(name) ? first.indexOf(name) : first.length)
    const all = exportsOf(file)
    return [
      `## ${entry}`,
      ...all.toSorted((a, b) => order(a) - order(b)).map(({ name, source }) => section(name, find(name, source))),
    ]
  })
  return `${[HEAD, ...parts].join('\n\n')}\n`
}

for (const fault of forgotten()) {
  console.error(fault)
  process.exitCode = 1
}
const cli = readFileSync(path('docs/reference/cli.md'), 'utf8')
const pages = { 'docs/reference/cli.md': await cliPage(cli), 'docs/reference/api.md': apiPage() }
for (const [page, text] of Object.entries(pages)) {
  if (!process.argv.includes('--check')) writeFileSync(path(page), text)
  else if (readFileSync(path(page), 'utf8') !== text) {
    console.error(`${page} is not fresh; run "npm run reference" and commit it`)
    process.exitCode = 1
  }
}
