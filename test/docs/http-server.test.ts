import { get } from 'node:http'
import { join } from 'node:path'
import { Pool, TimeoutError } from 'farpool'
import { afterEach, describe, expect, it } from 'vitest'
import { DocsProject } from '../support/docs.js'
import { until } from '../support/server.js'

const PAGE = 'docs/how-to/http-server.md'

/** Minutes of work: a test that waits for the function fails. */
const ENDLESS = '/primes/100000000000'

interface Workers {
  running: number
  queued: number
  workersStarted: number
}

describe(PAGE, () => {
  let project: DocsProject
  const url = (path: string) => `http://127.0.0.1:${project.port('3000')}${path}`
  const workers = async (): Promise<Workers> => (await fetch(url('/workers'))).json() as Promise<Workers>

  /** The server of the page, with a time limit of requests. */
  async function serve(timeoutMs: number): Promise<void> {
    project = await DocsProject.create()
    await project.files(PAGE)
    project.start('node server.js', { TIMEOUT_MS: String(timeoutMs) })
    await until(() => workers().then(Boolean, () => false), 'the server answers')
  }
  afterEach(() => project[Symbol.asyncDispose]())

  it('its blocks run as they are', async () => {
    project = await DocsProject.create()
    await project.runPage(PAGE)
  })

  it('a request that times out gets 504, and frees its worker', async () => {
    await serve(300)
    const answers = await Promise.all([fetch(url(ENDLESS)), fetch(url(ENDLESS))])
    expect(answers.map(({ status }) => status)).toEqual([504, 504])
    // The functions never end: their processes are replaced.
    await until(async () => (await workers()).workersStarted === 4, 'both workers are replaced')
    await until(async () => (await fetch(url('/primes/100'))).ok, 'a worker answers')
  })

  it('a function that looks at its signal ends, and keeps its process', async () => {
    project = await DocsProject.create()
    await project.files(PAGE)
    await using pool = await Pool.local(join(project.folder, 'stepwise.js'), { processes: 1, graceMs: 60_000 })
    const call = pool.with({ timeout: 300 }).fn.countAll(Array.from({ length: 1_000_000 }, () => 10_000))
    await expect(call).rejects.toThrow(TimeoutError)
    expect(await pool.fn.countAll([10, 100])).toEqual([4, 25])
    expect((await pool.info()).workersStarted).toBe(1)
  })

  it('a client that disconnects cancels its calls, running and queued', async () => {
    await serve(600_000)
    const requests = [1, 2, 3].map(() => get(url(ENDLESS)).on('error', () => {}))
    await until(async () => {
      const { running, queued } = await workers()
      return running === 2 && queued === 1
    }, 'two calls run and one waits')
    for (const request of requests) request.destroy()
    await until(async () => {
      const { running, queued } = await workers()
      return running + queued === 0
    }, 'no call is left')
    expect((await fetch(url('/primes/100'))).status).toBe(200)
  })

  it('the server answers while all workers compute', async () => {
    await serve(600_000)
    const requests = [1, 2].map(() => get(url(ENDLESS)).on('error', () => {}))
    await until(async () => (await workers()).running === 2, 'all workers compute')
    expect((await fetch(url('/primes/x'))).status).toBe(400)
    for (const request of requests) request.destroy()
  })
})
