/** The URL of the folder of this file; undefined in an ES module that a bundler made. */
declare const thisFolder: string | undefined
export = thisFolder
