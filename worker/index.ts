/** `farpool/worker`: the part of farpool that modules of functions may import. */
export { configure, type FunctionOptions } from './configure.js'
export { currentTask, type Task } from './current-task.js'
