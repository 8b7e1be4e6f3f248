import { Causes } from './causes.js'
import { type CallFacts, type ClientEvent, type ExecutionEvent, type Fault, failureIn } from './history.js'
import { clientOf, keyIn, keyOf, numberOf } from './item.js'
import { ItemTable, OUTCOME } from './table.js'

/** The records of a run. */
export interface History {
  readonly faults: readonly Fault[]
  /** The events of each client process, by its number. */
  readonly clients: Iterable<readonly [client: number, events: Iterable<ClientEvent>]>
  readonly executions: Iterable<ExecutionEvent>
  /** Processes and files that were left after the end. */
  readonly remains: readonly string[]
}

/** The rules. In a history that breaks none, every accepted task got exactly one outcome. */
export const RULES = {
  lost: 'every call of a client that was not killed has an outcome, and so has each of its items',
  twice: 'no call and no item has two outcomes',
  late: 'a call with a timeout ends',
  duplicated: 'no attempt of an item begins twice, and an item has at most 1 + retries attempts',
  'wrong result': 'each result belongs to its own item',
  'wrong order': 'imap returns results in the order of the items',
  'result without execution': 'an item with a result was executed to the end',
  'executed, though not started': 'an item that failed with started=false was not executed',
  'executed after the end': 'nothing runs in an owned pool after terminate or join has resolved',
  'failure without a cause': 'every failure is explained by an injected fault or by the options of its call',
  unhandled: 'no client process has an unhandled rejection',
  remains: 'no process, no socket and no temporary file is left',
} as const
export type Rule = keyof typeof RULES

export interface Violations {
  readonly rule: Rule
  count: number
  /** At most EXAMPLES. */
  readonly examples: string[]
}

export interface Verdict {
  tasks: number
  calls: number
  executions: number
  /** The number of items by reason; `ok` counts results. */
  outcomes: Record<string, number>
  /** Items of killed clients whose outcome was not recorded. */
  unknown: number
  violations: Violations[]
}

const EXAMPLES = 5

/** Checks a history against the rules. Reads each part once, in order, and keeps a few bytes per item. */
export function check(history: History): Verdict {
  return new Check(history).verdict
}

interface OpenCall {
  readonly facts: CallFacts
  /** The number of items with an outcome. */
  known: number
}

class Check {
  readonly verdict: Verdict = { tasks: 0, calls: 0, executions: 0, outcomes: {}, unknown: 0, violations: [] }
  readonly #causes: Causes
  readonly #killed: ReadonlySet<number>
  readonly #items = new Map<number, ItemTable>()
  /** The time after which nothing may run in a pool, by client and pool. */
  readonly #ended = new Map<string, number>()

  constructor(history: History) {
    this.#causes = new Causes(history.faults)
    this.#killed = new Set(history.faults.filter(({ kind }) => kind === 'client-kill').map(({ target }) => target))
    for (const [client, events] of history.clients) this.#client(client, events)
    for (const event of history.executions) this.#execution(event)
    for (const [client, table] of this.#items) this.#compare(client, table)
    for (const what of history.remains) this.#violation('remains', what)
  }

  #client(client: number, events: Iterable<ClientEvent>): void {
    const open = new Map<number, OpenCall>()
    const endedFrom = new Map<number, number>()
    const lived = !this.#killed.has(client)
    let isDone = false
    let begun = 0
    for (const event of events) {
      switch (event.kind) {
        case 'pool':
          break
        case 'call':
          open.set(event.call, { facts: event, known: 0 })
          begun = event.call
          this.#begun(client, event)
          break
        case 'unhandled':
          this.#violation('unhandled', `in client ${client}: ${event.what}`)
          break
        case 'ending':
          endedFrom.set(event.pool, event.at)
          break
        case 'ended': {
          const ran = this.#causes.mayHaveBroken(client, event.at) ? Number.POSITIVE_INFINITY : event.at
          this.#ended.set(`${client} ${event.pool}`, ran)
          break
        }
        case 'results': {
          const call = open.get(event.call)
          const poolEndedFrom = endedFrom.get(call?.facts.pool ?? 0) ?? Number.POSITIVE_INFINITY
          if (call) this.#results(client, call, event.index, event.outcomes, event.at, poolEndedFrom)
          else if (lived) this.#violation('twice', `results of the call ${client}/${event.call} come after its end`)
          break
        }
        case 'end': {
          const call = open.get(event.call)
          open.delete(event.call)
          const poolEndedFrom = endedFrom.get(call?.facts.pool ?? 0) ?? Number.POSITIVE_INFINITY
          if (call) this.#end(client, call, event.outcome, event.at, poolEndedFrom)
          else if (event.call <= begun) this.#violation('twice', `the call ${client}/${event.call} ended again`)
          break
        }
        case 'late':
          if (open.has(event.call)) this.#violation('late', `the call ${client}/${event.call}`)
          break
        case 'done':
          isDone = true
      }
    }
    for (const { facts } of open.values()) {
      if (lived) this.#violation('lost', `${facts.type} ${client}/${facts.call} of ${facts.function} has no outcome`)
      else this.verdict.unknown += facts.count
    }
    if (lived && !isDone && open.size === 0) this.#violation('lost', `client ${client} did not come to its end`)
  }

  #begun(client: number, facts: CallFacts): void {
    this.verdict.calls++
    this.verdict.tasks += facts.count
    const table = this.#tableOf(client)
    for (let at = 0, number = facts.first; at < facts.count; at++, number += facts.stride) {
      table.reach(number)
      table.pool[number] = facts.pool
      table.retries[number] = facts.retries
    }
  }

  #results(
    client: number,
    call: OpenCall,
    index: number,
    outcomes: readonly string[],
    at: number,
    poolEndedFrom: number,
  ): void {
    const { facts } = call
    const table = this.#tableOf(client)
    for (const [offset, word] of outcomes.entries()) {
      const where = `item ${index + offset} of ${facts.type} ${client}/${facts.call} (${facts.function})`
      const failure = failureIn(word)
      const key = failure ? undefined : keyIn(word)
      let number = facts.first + (index + offset) * facts.stride
      if (!failure && (key === undefined || key !== keyOf(client, number))) {
        const own = key !== undefined && clientOf(key) === client ? (numberOf(key) - facts.first) / facts.stride : -1
        const isOwn = Number.isInteger(own) && own >= 0 && own < facts.count
        if (!isOwn) this.#violation('wrong result', `${where}: ${word}`)
        else if (facts.type !== 'unordered') {
          this.#violation(facts.type === 'imap' ? 'wrong order' : 'wrong result', `${where}: that of item ${own}`)
        }
        if (isOwn) number = facts.first + own * facts.stride
      }
      if (table.outcome[number] !== OUTCOME.none) this.#violation('twice', where)
      table.outcome[number] = !failure
        ? OUTCOME.result
        : failure.started === false
          ? OUTCOME.notStarted
          : OUTCOME.failed
      call.known++
      this.#count(failure?.reason ?? 'ok')
      if (failure) this.#cause(client, facts, word, at, poolEndedFrom, where)
    }
  }

  #end(client: number, call: OpenCall, word: string, at: number, poolEndedFrom: number): void {
    const { facts } = call
    if (facts.type === 'apply') return this.#results(client, call, 0, [word], at, poolEndedFrom)
    const where = `${facts.type} ${client}/${facts.call} of ${facts.function}`
    const failure = failureIn(word)
    if (!failure) {
      const missing = facts.count - call.known
      if (missing !== 0) this.#violation('lost', `${where}: ${missing} of ${facts.count} items have no outcome`)
      return
    }
    this.#cause(client, facts, word, at, poolEndedFrom, where)
    const table = this.#tableOf(client)
    for (let item = 0, number = facts.first; item < facts.count; item++, number += facts.stride) {
      if (table.outcome[number] !== OUTCOME.none) continue
      table.outcome[number] = failure.started === false ? OUTCOME.callNotStarted : OUTCOME.withCall
    }
    this.#count(failure.reason, facts.count - call.known)
  }

  #cause(client: number, facts: CallFacts, word: string, at: number, poolEndedFrom: number, where: string): void {
    const failure = failureIn(word)
    const why = failure && this.#causes.contradiction({ client, facts, failure, at, poolEndedFrom })
    if (why) this.#violation('failure without a cause', `${where}: ${word}, but ${why}`)
  }

  #execution(event: ExecutionEvent): void {
    if (event.kind === 'begin') return
    const { key, attempt, at, pid } = event
    const client = clientOf(key)
    const number = numberOf(key)
    const table = this.#tableOf(client)
    table.reach(number)
    table.lastSign[number] = Math.max(at, table.lastSign[number] ?? 0)
    const bit = 1 << (attempt - 1)
    if (event.kind === 'finish') {
      table.finished[number] = (table.finished[number] ?? 0) | bit
      return
    }
    this.verdict.executions++
    const where = `item ${client}/${number}`
    if ((table.started[number] ?? 0) & bit) {
      this.#violation('duplicated', `${where}: attempt ${attempt} began again in ${pid} at ${at}`)
    }
    if (attempt > 1 + event.retries) {
      this.#violation('duplicated', `${where}: attempt ${attempt} with ${event.retries} retries`)
    }
    table.started[number] = (table.started[number] ?? 0) | bit
  }

  #compare(client: number, table: ItemTable): void {
    for (let number = 0; number < table.count; number++) {
      const where = `item ${client}/${number}`
      const outcome = table.outcome[number]
      const started = table.started[number] !== 0
      if (outcome === OUTCOME.result && table.finished[number] === 0) {
        this.#violation('result without execution', where)
      }
      if (started && (outcome === OUTCOME.notStarted || outcome === OUTCOME.callNotStarted)) {
        const whose = outcome === OUTCOME.notStarted ? '' : ' (as its whole call)'
        this.#violation('executed, though not started', `${where}${whose}`)
      }
      const ended = this.#ended.get(`${client} ${table.pool[number]}`)
      if (started && ended !== undefined && (table.lastSign[number] ?? 0) > ended) {
        this.#violation('executed after the end', `${where} of pool ${table.pool[number]}`)
      }
    }
  }

  #tableOf(client: number): ItemTable {
    let table = this.#items.get(client)
    if (!table) {
      table = new ItemTable()
      this.#items.set(client, table)
    }
    return table
  }

  #count(outcome: string, by = 1): void {
    this.verdict.outcomes[outcome] = (this.verdict.outcomes[outcome] ?? 0) + by
  }

  #violation(rule: Rule, example: string): void {
    let known = this.verdict.violations.find((violations) => violations.rule === rule)
    if (!known) {
      known = { rule, count: 0, examples: [] }
      this.verdict.violations.push(known)
    }
    known.count++
    if (known.examples.length < EXAMPLES) known.examples.push(example)
  }
}
