import poolifier = require('poolifier')

/** CommonJS, because the pool's first message is lost while a worker still loads ES modules. */
const functions = import('./functions.js')

new poolifier.ClusterWorker({
  noop: async (value?: unknown) => (await functions).noop(value),
  echo: async (value?: unknown) => (await functions).echo(value as Uint8Array),
  work: async (value?: unknown) => (await functions).work(value as number),
})
