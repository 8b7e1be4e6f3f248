/** A line of a stack. Only spaces: `\s` also matches line ends, and a message of a million of them would take hours. */
export const FRAME = /^ +at /m

/** The frames of a stack that are the user's: none of Node's own modules, and none of the code in these folders. */
export const userFrames = (stack: string, ownFolders: readonly string[]): string[] =>
  stack
    .split('\n')
    .filter(
      (line) => FRAME.test(line) && !/[ (]node:/.test(line) && !ownFolders.some((folder) => line.includes(folder)),
    )
