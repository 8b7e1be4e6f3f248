import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { blocksOf, DocsProject, isRun } from '../support/docs.js'

const DOCS = fileURLToPath(new URL('../../docs', import.meta.url))
const pages = readdirSync(DOCS, { recursive: true })
  .map((page) => join('docs', String(page)))
  .filter((page) => page.endsWith('.md'))

/** These pages have tests of their own in this folder. */
const TESTED = ['docs/how-to/http-server.md', 'docs/how-to/batch.md']
const runnable = ['README.md', ...pages].filter((page) => !TESTED.includes(page) && blocksOf(page).some(isRun))

describe('the code blocks of README and docs', () => {
  it('a block that does not run says why', () => {
    const blocks = ['README.md', ...pages].flatMap(blocksOf)
    const silent = blocks.filter((block) => /^not run/.test(block.info) && !/^not run: \w/.test(block.info))
    expect(silent.map(({ place }) => place)).toEqual([])
  })

  it('README, the tutorial and every how-to have blocks that run', () => {
    const all = pages.filter((page) => /^docs\/(tutorial|how-to)\//.test(page) && !TESTED.includes(page))
    expect(['README.md', ...all].filter((page) => !runnable.includes(page))).toEqual([])
  })

  it.each(runnable)(
    'of %s run',
    async (page) => {
      await using project = await DocsProject.create()
      await project.runPage(page)
    },
    180_000,
  )
})
