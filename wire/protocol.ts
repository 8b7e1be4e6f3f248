/** The numbers of the protocol: both ends keep to them. Milliseconds and bytes. */

/** Largest frame between server and worker: one message and its routing fields. */
export const MAX_FRAME_BYTES = 1024 * 1024 * 1024

/** A frame of IMap outcomes is sent when it holds this much: grpc-js counts messages, not bytes, for backpressure. */
export const FRAME_TARGET_BYTES = 256 * 1024

/** A message of calls has at most so many: the server takes it in one go, a few milliseconds, and others wait so long. */
export const FRAME_CALLS = 1_024

/** Timers hold a signed 32-bit count of milliseconds (24.8 days); a later deadline fires at once, so none is set. */
export const MAX_TIMER_MS = 2 ** 31 - 1

/** Pings find a peer that vanished without closing its connection. */
export const KEEPALIVE_MS = 10_000

/** A ping that is not answered for so long ends the connection. */
export const KEEPALIVE_TIMEOUT_MS = 5_000

/**
 * When a call that never started is worth sending again, at the earliest: a queue has moved on, or there is another server
 * behind the same name. Clients add pauses of their own, which grow.
 */
export const RETRY_MS = 100

/** Of an answer, so much is written ahead of what has been sent: enough for the next message to be there in time. */
export const UNSENT_BYTES = 512 * 1024

/**
 * How long the calls of a session outlive its stream, which a new one may take over: as long as a reconnect takes. Those
 * of a client that was killed live on as long, so not longer.
 */
export const RESUME_MS = 5_000

/** One end of a session tells the other after so many messages, or bytes, how many it has received. */
export const ACK_MESSAGES = 32
export const ACK_BYTES = 4 * 1024 * 1024

/**
 * The server's HTTP/2 receive window, of each stream and each connection: what a client may send ahead. Node reopens a
 * window when half of it has been read, so half a window passes per round trip: with 16 MiB more than a gigabit at
 * 50 ms, with Node's own 64 KiB not 1 MiB a second (bench/upload.sh); 32 MiB gain a tenth or two.
 * It takes no memory while its stream is read. A stream that is not (STREAM_BYTES) holds up to one window besides, a
 * quarter of what it holds anyway, and a message half sent may hold twice MAX_MESSAGE_BYTES without any window. It does
 * not hold back the other streams: Node reopens the connection's window on receipt, so that one needs to be no larger.
 * The client keeps Node's 64 KiB. Node reads nothing from a connection while a write to it waits, so two Node peers that
 * may both send more than the kernel buffers wait for each other for ever; one of the two ways has to be narrow.
 */
export const WINDOW_BYTES = 16 * 1024 * 1024

/**
 * Fields of a request in all its depth: calls, arguments, chunks. An empty one takes two bytes of a message and a hundred
 * and more of memory, and a call half a kilobyte: a message of the largest size could have 36 million.
 */
export const MAX_FIELDS = 256 * 1024
