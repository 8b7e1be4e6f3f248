import { describe, expect, it } from 'vitest'
import { check, type History, type Rule } from './check.js'
import type { CallFacts, ClientEvent, ExecutionEvent, Fault } from './history.js'
import { keyOf, resultOf } from './item.js'

const KEYS = [0, 1, 2].map((number) => keyOf(0, number))
const [KEY = 0, NEXT = 0] = KEYS

const call = (facts: Partial<CallFacts> = {}): ClientEvent => ({
  kind: 'call',
  call: 1,
  function: 'work',
  type: 'apply',
  pool: 1,
  first: 0,
  stride: 1,
  count: 1,
  retries: 0,
  timeout: 0,
  givenUp: false,
  at: 100,
  ...facts,
})
const end = (outcome: string, at = 110): ClientEvent => ({ kind: 'end', call: 1, at, outcome })
const results = (index: number, ...outcomes: string[]): ClientEvent => ({
  kind: 'results',
  call: 1,
  index,
  at: 108,
  outcomes,
})
const done: ClientEvent = { kind: 'done' }

const ran = (key = KEY, attempt = 1, { retries = 0, at = 105, pid = 7 } = {}): ExecutionEvent[] => [
  { kind: 'start', pid, key, attempt, retries, at },
  { kind: 'finish', pid, key, attempt, at: at + 1 },
]

/** The rules that a history breaks. */
function broken(events: ClientEvent[], executions: ExecutionEvent[] = [], more: Partial<History> = {}): Rule[] {
  const history: History = { faults: [], clients: [[0, events]], executions, remains: [], ...more }
  return check(history).violations.map(({ rule }) => rule)
}

const fault = (kind: string, target = 0, at = 101): Fault => ({ kind, at, target })

describe('the check of a history', () => {
  it('accepts a result, a crash that was caused, and a retry', () => {
    expect(broken([call(), end(resultOf(KEY)), done], ran())).toEqual([])
    const crashed = '!WORKER_CRASHED/true/1/7'
    expect(broken([call(), end(crashed), done], ran().slice(0, 1), { faults: [fault('kill', 7)] })).toEqual([])
    const retried = [...ran(KEY, 1, { retries: 1 }).slice(0, 1), ...ran(KEY, 2, { retries: 1, pid: 8 })]
    expect(broken([call({ retries: 1 }), end(resultOf(KEY)), done], retried)).toEqual([])
  })

  it('finds calls and items without an outcome, and clients that stopped', () => {
    expect(broken([call(), done], ran())).toEqual(['lost'])
    const two = call({ type: 'imap', count: 2 })
    expect(broken([two, results(0, resultOf(KEY)), end('ok'), done], ran())).toEqual(['lost'])
    expect(broken([call(), end(resultOf(KEY))], ran())).toEqual(['lost'])
  })

  it('does not expect records of a killed client', () => {
    expect(broken([call()], ran(), { faults: [fault('client-kill', 0)] })).toEqual([])
  })

  it('finds second outcomes', () => {
    expect(broken([call(), end(resultOf(KEY)), end(resultOf(KEY)), done], ran())).toEqual(['twice'])
    const twice = [call({ type: 'settle', count: 1 }), results(0, resultOf(KEY)), results(0, resultOf(KEY)), done]
    expect(broken([...twice, end('ok')], ran())).toContain('twice')
  })

  it('finds second executions, and more attempts than allowed', () => {
    expect(broken([call(), end(resultOf(KEY)), done], [...ran(), ...ran(KEY, 1, { pid: 8 })])).toEqual(['duplicated'])
    expect(broken([call(), end(resultOf(KEY)), done], [...ran(), ...ran(KEY, 2)])).toEqual(['duplicated'])
  })

  it('finds results of other calls, and wrong orders', () => {
    expect(broken([call(), end(resultOf(NEXT)), done], ran())).toEqual(['wrong result'])
    expect(broken([call(), end('nonsense'), done], ran())).toContain('wrong result')
    const swapped = results(0, resultOf(NEXT), resultOf(KEY))
    const executions = [...ran(KEY), ...ran(NEXT)]
    expect(broken([call({ type: 'imap', count: 2 }), swapped, end('ok'), done], executions)).toEqual(['wrong order'])
    expect(broken([call({ type: 'unordered', count: 2 }), swapped, end('ok'), done], executions)).toEqual([])
  })

  it('finds results without an execution, and executions of calls that failed as not started', () => {
    expect(broken([call(), end(resultOf(KEY)), done])).toEqual(['result without execution'])
    const draining = [call(), end('!SERVER_DRAINING/false/0/0'), done]
    expect(broken(draining, [], { faults: [fault('restart')] })).toEqual([])
    expect(broken(draining, ran(), { faults: [fault('restart')] })).toEqual(['executed, though not started'])
    const whole = [call({ type: 'map', count: 2 }), end('!SERVER_DRAINING/false/0/0'), done]
    expect(broken(whole, ran(NEXT), { faults: [fault('restart')] })).toEqual(['executed, though not started'])
  })

  it('finds executions in a terminated pool', () => {
    const terminated: ClientEvent[] = [
      call(),
      { kind: 'ending', pool: 1, at: 106 },
      end('!POOL_TERMINATED/true/0/0'),
      { kind: 'ended', pool: 1, at: 120 },
      done,
    ]
    expect(broken(terminated, ran())).toEqual([])
    expect(broken(terminated, ran(KEY, 1, { at: 130 }))).toEqual(['executed after the end'])
  })

  it.each([
    ['!WORKER_CRASHED/true/1/7', 'nobody killed it'],
    ['!CONNECTION_FAILED/?/0/0', 'no connection broke'],
    ['!SERVER_DRAINING/false/0/0', 'no server ended'],
    ['!TASK_TIMEOUT/true/0/0', 'it had no timeout'],
    ['!CANCELLED/?/0/0', 'nobody gave it up'],
    ['!POOL_TERMINATED/?/0/0', 'nobody terminated it'],
    ['!FUNCTION_ERROR/true/0/0', 'it throws nothing'],
    ['!INTERNAL/?/0/0', 'it can have no cause'],
  ])('finds the failure %s, where %s', (word) => {
    expect(broken([call(), end(word), done])).toEqual(['failure without a cause'])
  })

  it('finds early timeouts, and calls that outlive their timeout', () => {
    const hurried = call({ timeout: 50 })
    expect(broken([hurried, end('!TASK_TIMEOUT/?/0/0', 120), done])).toEqual(['failure without a cause'])
    expect(broken([hurried, end('!TASK_TIMEOUT/?/0/0', 151), done])).toEqual([])
    expect(broken([hurried, { kind: 'late', call: 1 }, end(resultOf(KEY), 999), done], ran())).toEqual(['late'])
  })

  it('finds remaining processes, and unhandled rejections', () => {
    expect(broken([done], [], { remains: ['process 7'] })).toEqual(['remains'])
    expect(broken([{ kind: 'unhandled', what: 'Error' }, done])).toEqual(['unhandled'])
  })
})
