import { describe, expect, it } from 'vitest'
import { Pool, type PoolOptions } from '../../pool/pool.js'
import { Pools } from '../../pool/pools.js'
import type { Observer } from '../../pool/scheduler/effects.js'
import type { Outcome } from '../../pool/scheduler/task.js'
import { Failure } from '../../wire/failure.js'
import { clientNamed, job, UNLIMITED } from '../support/scheduler.js'
import { echoWorker, ScriptedLauncher } from '../support/scripted-worker.js'

/** A pool driven through its seams: Engine above, Launcher and WorkerProcess below. No process, no gRPC. */

const options = (launcher: ScriptedLauncher, more: Partial<PoolOptions> = {}): PoolOptions => ({
  launcher,
  processes: 2,
  maxTasksPerChild: undefined,
  maxRunningPerClient: undefined,
  limits: UNLIMITED,
  runTimeoutMs: 0,
  startTimeoutMs: 0,
  graceMs: 1_000,
  modules: ['/m.js'],
  initializer: '',
  initargs: [],
  stacks: false,
  maxRssBytes: 0,
  maxResultBytes: 0,
  ...more,
})

/** Submits a call of `echo`; resolves with its outcome. */
const echo = (pool: Pick<Pool, 'submit'>, value: number): Promise<Outcome> =>
  new Promise((resolve) => {
    pool.submit({
      job: job({ function: 'echo', client: clientNamed('caller') }),
      args: [new Uint8Array([value])],
      chunk: undefined,
      owner: { settled: (_, outcome) => resolve(outcome) },
      key: 0,
      isHeld: false,
    })
  })

describe('a pool over a scripted launcher', () => {
  it('sends tasks to its workers and their outcomes to the owners', async () => {
    const pool = new Pool('test', options(new ScriptedLauncher(echoWorker)))
    expect((await pool.ready).map(({ name }) => name)).toEqual(['echo'])
    const outcomes = await Promise.all([1, 2, 3].map((value) => echo(pool, value)))
    expect(outcomes.map((outcome) => outcome.ok && outcome.payload[0])).toEqual([1, 2, 3])
    expect(pool.stats).toMatchObject({ submitted: 3, succeeded: 3, running: 0, queued: 0, workersStarted: 2 })
    pool.close()
    await pool.ended
    expect(pool.state.kind).toBe('closed')
  })

  it('tells its observer of workers and states, and where output goes', async () => {
    const seen: string[] = []
    const printed: string[] = []
    const observer: Observer = {
      worker: ({ kind, worker }) => seen.push(`${kind} ${worker}`),
      state: ({ kind }) => seen.push(kind),
    }
    const launcher = new ScriptedLauncher((command, worker) => {
      if (command.$case === 'run') worker.report({ $case: 'log', value: { task: 1, stream: 1, text: 'hello\n' } })
      echoWorker(command, worker)
    })
    const output: PoolOptions['output'] = ({ pid }, lines) => {
      printed.push(...lines.map(({ text, task }) => `${pid} ${task} ${text}`))
      return undefined
    }
    const pool = new Pool('test', options(launcher, { processes: 1, observer, output }))
    await echo(pool, 1)
    pool.close()
    await pool.ended
    expect(seen).toEqual(['starting 1', 'ready 1', 'closed', 'exited 1'])
    expect(printed).toEqual(['1000 1 hello'])
  })

  it('replaces a worker that exits, and fails only the task that it ran', async () => {
    const launcher = new ScriptedLauncher((command, worker) => {
      if (command.$case === 'run' && worker.pid === 1_000) {
        worker.report({ $case: 'started', value: { task: command.value.tasks[0]?.task ?? 0 } })
        worker.exit(3)
      } else echoWorker(command, worker)
    })
    const pool = new Pool('test', options(launcher, { processes: 1 }))
    const [first, second] = await Promise.all([echo(pool, 1), echo(pool, 2)])
    expect(first).toMatchObject({ ok: false, failure: { reason: 'WORKER_CRASHED', metadata: { exit_code: '3' } } })
    expect(second).toMatchObject({ ok: true })
    await pool.terminate()
    expect(launcher.workers.at(-1)?.isKilled).toBe(true)
  })

  it('fails if its launcher has no room for any worker, and says why', async () => {
    const pool = new Pool('test', options(new ScriptedLauncher(), { processes: 1 }))
    await expect(pool.ready).rejects.toThrow(/3 workers in a row died .* could not be started: spawn EMFILE/)
    await pool.ended
    await expect(echo(pool, 1)).rejects.toMatchObject({ reason: 'NO_WORKERS' })
  })
})

const silent = () => ({ observer: {}, output: () => undefined })

describe('the engine of one machine', () => {
  const start = async (limits = { maxPools: 10, maxProcesses: 10 }) => {
    const launcher = new ScriptedLauncher(echoWorker)
    const engine = new Pools(new Map([['default', options(launcher)]]), limits, silent)
    await engine.start()
    return { engine, launcher }
  }
  const ANN = { name: 'Ann' }
  const OWNED = { sharedPool: '', processes: 1, initializer: '', initargs: [], maxTasksPerChild: undefined }

  it('runs tasks in the shared pool, which has an empty name in requests', async () => {
    const { engine } = await start()
    expect(engine.isShared(engine.pool('', ANN))).toBe(true)
    expect([...engine.pool('', ANN).functions.byName.keys()]).toEqual(['echo'])
    expect(await echo(engine.pool('', ANN), 7)).toMatchObject({ ok: true, payload: new Uint8Array([7]) })
    await engine.terminate()
  })

  it('opens owned pools, and remembers those that have ended', async () => {
    const { engine, launcher } = await start()
    const exits: number[] = []
    const pool = engine.open(OWNED, ANN, {
      worker: (event) => event.kind === 'exited' && exits.push(event.exit.pid),
    })
    expect(await echo(engine.pool(pool.name, ANN), 1)).toMatchObject({ ok: true })
    // Workers of an owned pool give the others precedence from their start.
    expect(launcher.workers.at(-1)?.priorityIsLow).toBe(true)
    await engine.release(pool)
    expect([engine.hasEnded(pool.name, ANN), exits]).toEqual([true, [launcher.workers.at(-1)?.pid]])
    expect(() => engine.pool(pool.name, ANN)).toThrow('the pool has been terminated')
    expect(() => engine.pool('nowhere', ANN)).toThrow('no pool "nowhere"')
    await engine.terminate()
  })

  it('has owned pools for their owners only, also when they have ended', async () => {
    const { engine } = await start()
    const pool = engine.open(OWNED, ANN, {})
    const bob = { name: 'Ann' }
    expect(() => engine.pool(pool.name, bob)).toThrow(`no pool "${pool.name}"`)
    await engine.release(pool)
    expect(() => engine.pool(pool.name, bob)).toThrow(`no pool "${pool.name}"`)
    expect(engine.hasEnded(pool.name, bob)).toBe(false)
    await engine.terminate()
  })

  it('refuses owned pools beyond its limits, or with options that cannot be right', async () => {
    const { engine } = await start({ maxPools: 1, maxProcesses: 4 })
    const open = (more: object) => () => engine.open({ ...OWNED, ...more }, ANN, {})
    expect(open({ processes: 3 })).toThrow('all pools may have 4')
    expect(open({ processes: 0 })).toThrow('processes is 0')
    expect(open({ initializer: 'ecko' })).toThrow('did you mean echo?')
    expect(open({ initargs: [new Uint8Array()] })).toThrow('without an initializer')
    engine.open(OWNED, ANN, {})
    expect(open({})).toThrow('1 pools of clients are open; at most 1 may be')
    await engine.terminate()
  })

  it('cancels a task by `end`, and completes held requests after `close`', async () => {
    const launcher = new ScriptedLauncher((command, worker) => {
      if (command.$case !== 'run') echoWorker(command, worker)
    })
    const shared = new Map([['default', options(launcher)]])
    const engine = new Pools(shared, { maxPools: 1, maxProcesses: 10 }, silent)
    await engine.start()
    const pool = engine.pool('', ANN)
    const outcomes: Outcome[] = []
    const owner = { settled: (_: number, outcome: Outcome) => void outcomes.push(outcome) }
    const request = { job: job({ function: 'echo' }), args: undefined, chunk: undefined, owner, key: 0, isHeld: false }
    const task = pool.submit(request)
    const release = pool.hold()
    pool.close()
    expect(() => pool.submit(request)).toThrow('closed')
    const held = pool.submit({ ...request, isHeld: true })
    pool.end(task, new Failure('CANCELLED', 'gone'))
    pool.end(held, new Failure('CANCELLED', 'gone'))
    expect(outcomes).toMatchObject([{ failure: { reason: 'CANCELLED' } }, { failure: { reason: 'CANCELLED' } }])
    release()
    await pool.terminate()
  })
})
