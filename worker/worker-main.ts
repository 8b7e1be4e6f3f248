import { readFileSync, writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Init } from '../proto/gen/farpool/worker/v1/worker.js'
import { asFailure, Failure, failureToStatus } from '../wire/failure.js'
import { decodeToWorker, FrameReader, type ToWorkerFrame } from '../wire/framing/frames.js'
import { describe } from './describe-error.js'
import { decodePart } from './invoke.js'
import { type LoadedFunction, loadFunctions } from './load-functions.js'
import { capturePrints, pieces } from './output-capture.js'
import { Outbox } from './reports.js'
import { Hand } from './task-runner.js'

/** How much likelier than by its size alone the kernel ends a worker, and not the server, for want of memory (of 1,000). */
const OOM_SCORE = 500

/** The kernel's largest. A container may give its server nearly as much. */
const MAX_OOM_SCORE = 1_000

/**
 * A worker process: proto/farpool/worker/v1/worker.proto, spoken over two file descriptors. It loads the modules, runs
 * the initializer, then executes one task after another. When the socket ends, the server is gone and so is it.
 */
const ORDERS_FD = 3
const WORDS_FD = 4
/** More printed text than this waits to be read: further text goes round the frames (prints.ts). */
const PRINT_BACKLOG_BYTES = 1024 * 1024

preferForOom()
const orders = new Socket({ fd: ORDERS_FD, writable: false })
const words = new Socket({ fd: WORDS_FD, readable: false })
const outbox = new Outbox(words, WORDS_FD)
const reader = new FrameReader((frame) => receive(decodeToWorker(frame)))
/** Made by Init, which comes first. */
let hand: Hand | undefined
let initialized: Promise<void> = Promise.resolve()

orders.on('data', (bytes) => reader.push(bytes))
orders.on('error', () => process.exit(1))
orders.on('close', () => process.exit(0))
words.on('error', () => process.exit(1))
// The server decides when a worker ends; a signal for the whole terminal or container is not for the worker.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
capturePrints((stream, text) => {
  if (outbox.backlog > PRINT_BACKLOG_BYTES) return false
  for (const piece of pieces(text))
    outbox.send({ $case: 'log', value: { task: hand?.running ?? 0, stream, text: piece } })
  return true
})

function receive(frame: ToWorkerFrame | undefined): void {
  switch (frame?.$case) {
    case 'init':
      initialized = initialize(frame.value)
      return
    case 'run':
      return hand?.add(frame.value)
    case 'abort':
      return hand?.abort(frame.value.task, frame.value.reason)
    case 'stop':
      void initialized.then(() => hand?.idle()).then(() => words.end(() => process.exit(0)))
      return
    case undefined:
      return
  }
}

/** Where memory runs out, the kernel takes a worker before the server. */
function preferForOom(): void {
  try {
    const file = '/proc/self/oom_score_adj'
    // What it has now is the server's.
    const score = Number(readFileSync(file, 'utf8'))
    writeFileSync(file, String(Math.min(MAX_OOM_SCORE, Math.max(0, score) + OOM_SCORE)))
  } catch {
    // Not Linux, or not allowed.
  }
}

async function initialize(init: Init): Promise<void> {
  try {
    const functions = await loadFunctions(init.modules, init.stacks)
    if (init.initializer !== '') await runInitializer(init, functions)
    hand = new Hand(functions, init, outbox)
    outbox.send({
      $case: 'ready',
      value: {
        functions: [...functions].map(([name, { call, module, options }]) => ({
          name,
          parameters: call.length,
          module,
          ...options,
        })),
        runtime: `node ${process.version}`,
      },
    })
  } catch (error) {
    outbox.send({ $case: 'initFailed', value: { status: failureToStatus(asFailure(error)) } })
    await new Promise<void>((resolve) => words.end(resolve))
    process.exit(1)
  }
}

async function runInitializer(init: Init, functions: ReadonlyMap<string, LoadedFunction>): Promise<void> {
  const initializer = functions.get(init.initializer)
  if (!initializer) {
    const names = [...functions.keys()].join(', ')
    throw new Failure(
      'INITIALIZER_FAILED',
      `the initializer ${JSON.stringify(init.initializer)} is not exported; there are: ${names}`,
    )
  }
  const args = init.initargs.map((arg, at) => decodePart(arg, `initializer argument ${at + 1}`).value)
  try {
    await initializer.call(...args)
  } catch (error) {
    const remote = describe(error, init.stacks)
    throw new Failure(
      'INITIALIZER_FAILED',
      `the initializer ${init.initializer} threw ${remote.type}: ${remote.message}`,
      {
        remote,
        metadata: { initializer: init.initializer },
      },
    )
  }
}
