// Both ends of a worker's socket compare times: process.hrtime counts from the same moment in every process of a machine.
const ORIGIN = Number(process.hrtime.bigint()) / 1e6 - performance.now()

/** The machine's monotonic clock, in milliseconds; the same in every process. */
export const monotonic = (): number => ORIGIN + performance.now()
