/** `farpool/worker`: what a module of functions may import. */
export { currentTask, type Task } from './context.js'
