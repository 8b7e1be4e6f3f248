/** The numbers of the protocols, on which both ends agree. Times are in milliseconds. */

/** The largest frame between server and worker, in bytes: one message. */
export const MAX_FRAME_BYTES = 1024 * 1024 * 1024

/**
 * A message with outcomes, or with calls, is sent when it has this many bytes. The backpressure of grpc-js counts messages
 * and not bytes, so many small ones would be buffered.
 */
export const FRAME_TARGET_BYTES = 256 * 1024

/** The most calls in a message. The server handles a message without a pause, and this many take a few milliseconds. */
export const FRAME_CALLS = 1_024

/** The longest delay of a timer: a signed 32-bit number of milliseconds (24.8 days). A longer delay would fire at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1

/** How often each end pings the other. */
export const PING_MS = 5_000

/**
 * A connection ends if its peer answers no ping for this long. The peer may be alive: a program that computes, or stands at
 * a breakpoint, answers when it is done. A machine that has vanished is noticed earlier (wire/silent-connections.ts).
 */
export const PING_TIMEOUT_MS = 5 * 60_000

/**
 * The earliest time at which a client may send a call that never started again: by then a queue has moved on, or another
 * server answers under the same name. Clients add growing pauses of their own.
 */
export const RETRY_MS = 100

/** How many bytes of a stream are written ahead of what the connection has sent, so that the next message is ready. */
export const UNSENT_BYTES = 512 * 1024

/**
 * How long the calls of a session go on without a stream, so that a new stream can resume the session. A reconnect takes
 * less. The calls of a client that was killed go on for the same time, so it is not longer.
 */
export const RESUME_MS = 5_000

/** Each end of a session acknowledges what it has received after this many messages, or bytes. */
export const ACK_MESSAGES = 32
export const ACK_BYTES = 4 * 1024 * 1024

/**
 * The HTTP/2 receive window of the server, for each stream and each connection: how much a client may send ahead.
 *
 * Speed: Node reopens a window when half of it has been read, so half a window passes in a round trip. At 50 ms, 16 MiB allow
 * more than a gigabit per second, and the 64 KiB that are Node's default not even 1 MiB/s (bench/upload.sh). 32 MiB gain
 * another 10 to 20 percent.
 *
 * Memory: a stream that is read uses none of it. A stream that is not read holds up to one window in addition, a quarter of
 * what it may hold anyway. The window of a connection need not be larger than that of a stream: Node reopens it on receipt,
 * so a stream that is not read does not hold back the others.
 *
 * The client keeps Node's 64 KiB. Node does not read from a connection while a write to it waits. Two Node peers that both
 * send more than the kernel buffers would therefore wait for each other forever; one of the two directions must be narrow.
 */
export const WINDOW_BYTES = 16 * 1024 * 1024

/**
 * The most fields in a request, with those of nested messages: calls, arguments, chunks. An empty field takes two bytes of a
 * message and more than a hundred of memory, an empty call half a kilobyte. The largest message could have 36 million.
 */
export const MAX_FIELDS = 256 * 1024
