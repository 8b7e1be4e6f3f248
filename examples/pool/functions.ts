// The functions of the six example programs.
import { setTimeout as sleep } from 'node:timers/promises'

let started = 0
let prefix = ''

/** The initializer: runs once in each process, before its first task. */
export function start(text: string, number: number): void {
  started++
  prefix = `${text}-${number}`
}

/** Returns facts about its process and its initializer. */
export async function whoami(task: number) {
  await sleep(20)
  return { task, pid: process.pid, prefix, started }
}

/** a ** b, plus the keyword argument `plus`. */
export const power = (a: number, b: number, { plus = 0 }: { plus?: number } = {}): number => a ** b + plus

export const square = (x: number): number => x * x

/** Takes longer for small numbers, so that the results arrive in another order than the calls. */
export async function slowSquare(x: number): Promise<number> {
  await sleep(x % 4 === 0 ? 60 : 1)
  return x * x
}

export async function wait(ms: number): Promise<number> {
  await sleep(ms)
  return ms
}
