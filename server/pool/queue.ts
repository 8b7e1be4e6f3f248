import { type Task, taskBytes } from './task.js'

interface Node {
  readonly task: Task
  previous: Node | undefined
  next: Node | undefined
}

/** Tasks that wait for a worker: first in, first out; any of them can be taken out at once, however many wait. */
export class TaskQueue {
  #first: Node | undefined
  #last: Node | undefined
  #bytes = 0
  readonly #nodes = new Map<number, Node>()

  get size(): number {
    return this.#nodes.size
  }

  /** The encoded bytes of all tasks that wait. */
  get bytes(): number {
    return this.#bytes
  }

  push(task: Task): void {
    const node: Node = { task, previous: this.#last, next: undefined }
    if (this.#last) this.#last.next = node
    else this.#first = node
    this.#last = node
    this.#added(node)
  }

  /** Puts a task in front of all others: one that had its turn and lost its worker. */
  unshift(task: Task): void {
    const node: Node = { task, previous: undefined, next: this.#first }
    if (this.#first) this.#first.previous = node
    else this.#last = node
    this.#first = node
    this.#added(node)
  }

  shift(): Task | undefined {
    return this.#first && this.remove(this.#first.task.id)
  }

  /** Takes a task out wherever it stands; undefined where it does not wait here. */
  remove(id: number): Task | undefined {
    const node = this.#nodes.get(id)
    if (!node) return undefined
    if (node.previous) node.previous.next = node.next
    else this.#first = node.next
    if (node.next) node.next.previous = node.previous
    else this.#last = node.previous
    this.#nodes.delete(id)
    this.#bytes -= taskBytes(node.task.spec)
    return node.task
  }

  #added(node: Node): void {
    this.#nodes.set(node.task.id, node)
    this.#bytes += taskBytes(node.task.spec)
  }
}
