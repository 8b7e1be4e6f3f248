import { closeSync, openSync, readdirSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { decodeToWorker, FrameReader, writeToWorker } from '../../wire/framing/frames.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'
import { COMMANDS_PART, REPORTS_PART, SharedFileReader, SharedFileWriter } from '../../wire/framing/shared-file.js'
import { PLAIN_RUN } from '../support/plain-run.js'

let fd: number
beforeEach(() => {
  const path = join(tmpdir(), `farpool-test-shared-${process.pid}`)
  fd = openSync(path, 'wx+', 0o600)
  unlinkSync(path)
})
afterEach(() => closeSync(fd))

const MIB = 1024 * 1024
const run = (task: number, bytes: number) => ({
  $case: 'run' as const,
  value: { ...PLAIN_RUN, tasks: [{ task, attempt: 1, args: [Buffer.alloc(bytes, task)], chunk: undefined }] },
})

describe('a shared file', () => {
  it('carries large frames, small ones go through the socket, and all arrive in their order', () => {
    const file = new SharedFileWriter(fd, COMMANDS_PART)
    const seen: [number, number, boolean][] = []
    const reader = new FrameReader((frame) => {
      const command = decodeToWorker(frame)
      if (command?.$case !== 'run') throw new Error('it is not a run')
      for (const { task, args } of command.value.tasks) {
        const [arg = Buffer.of()] = args
        seen.push([task, arg.length, Buffer.alloc(arg.length, task).equals(arg)])
      }
    }, new SharedFileReader(fd, COMMANDS_PART))
    const sizes = [10, MIB, 300_000, 20, 3 * MIB, MIB, 5 * MIB, 2 * MIB, 30, 20 * MIB, MIB]
    let inSocket = 0
    for (let round = 0; round < 3; round++) {
      const writer = new ProtoWriter()
      for (const [at, size] of sizes.entries()) writeToWorker(writer, run(at, size), file)
      const bytes = writer.take()
      inSocket += bytes.length
      // In small parts: a header may be divided.
      for (let at = 0; at < bytes.length; at += 65_531) reader.push(bytes.subarray(at, at + 65_531))
      expect(seen.splice(0)).toEqual(sizes.map((size, task) => [task, size, true]))
    }
    // The frame of 20 MiB has no room in the file in any round; what has room depends on what the reader has read.
    expect(inSocket).toBeGreaterThan(3 * 20 * MIB)
    expect(inSocket).toBeLessThan(3 * 31 * MIB)
  })

  it('begins again at the front when everything has been read, and has no room before', () => {
    const writer = new SharedFileWriter(fd, REPORTS_PART)
    const reader = new SharedFileReader(fd, REPORTS_PART)
    const frame = Buffer.alloc(3 * MIB, 1)
    const first = writer.put([frame], frame.length)
    const second = writer.put([frame.subarray(MIB), frame.subarray(0, MIB)], frame.length)
    expect(writer.put([frame], frame.length)).toBeUndefined()
    expect(reader.take(first ?? 0, frame.length).equals(frame)).toBe(true)
    expect(writer.put([frame], frame.length)).toBeUndefined()
    expect(reader.take(second ?? 0, frame.length).equals(frame)).toBe(true)
    expect(writer.put([frame], frame.length)).toBe(first)
  })

  it('refuses a place outside of its part', () => {
    const reader = new SharedFileReader(fd, REPORTS_PART)
    for (const place of [0, REPORTS_PART, 2 ** 32 - 1]) expect(() => reader.take(place, 10)).toThrow(RangeError)
    expect(() => reader.take(REPORTS_PART + 4, 10)).toThrow('0 of the 10 bytes')
  })

  it('does without the file when it cannot be written', () => {
    const readOnly = openSync('/dev/null', 'r')
    const writer = new SharedFileWriter(readOnly, COMMANDS_PART)
    expect(writer.put([Buffer.alloc(MIB)], MIB)).toBeUndefined()
    closeSync(readOnly)
  })

  it.runIf(process.platform === 'linux')('of a worker has no name', () => {
    expect(readdirSync('/dev/shm').filter((name) => name.startsWith('farpool-'))).toEqual([])
  })
})
