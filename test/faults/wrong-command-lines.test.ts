import { describe, expect, it } from 'vitest'
import { farpool } from '../support/server.js'

describe('farpool call', () => {
  it('exits with 2 if its command line is wrong', async () => {
    for (const args of [
      ['call'],
      ['call', 'add', '[1'],
      ['call', 'add', '--kwargs', '[1]'],
      ['call', 'add', '--timeout', '0'],
      ['nonsense'],
      ['call', 'add', '--no-such'],
    ]) {
      const { code, stderr } = await farpool(args)
      expect([args, code]).toEqual([args, 2])
      expect(stderr).not.toBe('')
    }
  })
})

describe('farpool serve', () => {
  it('exits with 2 and names the option, if a value is wrong', async () => {
    for (const args of [
      ['--processes', '0'],
      ['--processes', '1.5'],
      ['--initargs', '5'],
      ['--listen', 'nowhere'],
      ['--log-level', 'loud'],
      ['--max-tasks-per-child', '-1'],
    ]) {
      const { code, stderr } = await farpool(['serve', 'x.js', ...args])
      expect([args, code, stderr]).toEqual([args, 2, expect.stringContaining(String(args[0]).replace('--', ''))])
    }
  })
})
