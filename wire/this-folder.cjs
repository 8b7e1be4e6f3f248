// CommonJS, because bundlers replace `import.meta.url` with nothing, or with a path of the machine that they run on. Without
// `require`, which an ES module made by esbuild does not have.
const { pathToFileURL } = process.getBuiltinModule('node:url')

module.exports = typeof __dirname === 'string' ? pathToFileURL(`${__dirname}/`).href : undefined
