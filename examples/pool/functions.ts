// The functions of the six programs.
import { setTimeout as sleep } from 'node:timers/promises'

let started = 0
let prefix = ''

/** Runs once in every process, before its first task. */
export function start(text: string, number: number): void {
  started++
  prefix = `${text}-${number}`
}

/** Who am I, and how was I started? */
export async function whoami(task: number) {
  await sleep(20)
  return { task, pid: process.pid, prefix, started }
}

/** a ** b, plus c where it is given by keyword. */
export const power = (a: number, b: number, { plus = 0 }: { plus?: number } = {}): number => a ** b + plus

export const square = (x: number): number => x * x

/** Small numbers take longest: results come in another order than they were asked for. */
export async function slowSquare(x: number): Promise<number> {
  await sleep(x % 4 === 0 ? 60 : 1)
  return x * x
}

export async function wait(ms: number): Promise<number> {
  await sleep(ms)
  return ms
}
