// CommonJS, because only there a package can be loaded later without a promise, by Node as well as by bundlers.

module.exports = () => {
  if (canRequire()) return require('@grpc/grpc-js')
  // grpc-js requires modules of Node while it is loaded.
  globalThis.require = (name) => process.getBuiltinModule(name)
  try {
    return require('@grpc/grpc-js')
  } finally {
    delete globalThis.require
  }
}

/** In an ES module that esbuild made, modules of Node cannot be required, unless there is a global `require`. */
function canRequire() {
  try {
    return require('node:url') !== undefined
  } catch {
    return false
  }
}
