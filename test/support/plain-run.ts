import type { Run } from '../../proto/gen/farpool/worker/v1/worker.js'

/** A command to run no task, in which every field has its plainest value. */
export const PLAIN_RUN: Run = {
  function: 'f',
  args: [],
  kwargs: undefined,
  spread: false,
  replyKind: 0,
  failFast: false,
  allowPartial: false,
  beginBy: 0,
  tasks: [],
}
