/**
 * The machine's monotonic clock, in milliseconds: both ends of a worker's socket compare times. The same in every
 * process, because each reads it whole: a difference to another clock, taken once, is as wrong as that moment was slow.
 */
export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6
