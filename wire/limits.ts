/** Every number of the protocol, with its reason. Milliseconds and bytes. */

/** Largest gRPC message by default: a 64 MiB payload with room for what stands around it. */
export const MAX_MESSAGE_BYTES = 72 * 1024 * 1024

/** Largest frame between server and worker: one message and its routing fields. */
export const MAX_FRAME_BYTES = 1024 * 1024 * 1024

/** The client cuts the requests of a map at this size, so that no request nears MAX_MESSAGE_BYTES because of its count. */
export const REQUEST_TARGET_BYTES = 4 * 1024 * 1024

/** A frame of IMap outcomes is sent when it holds this much: grpc-js counts messages, not bytes, for backpressure. */
export const FRAME_TARGET_BYTES = 256 * 1024

/** Trailers near 64 KiB break grpc-js connections, and Python and Go refuse blocks above 8 KiB; ours stay below this. */
export const TRAILER_BUDGET_BYTES = 6 * 1024

/** A failure's message inside a frame; longer ones are cut. */
export const FAILURE_MESSAGE_BYTES = 8 * 1024

/** A remote stack inside a frame; longer ones are cut. */
export const FAILURE_STACK_BYTES = 8 * 1024

/** How many causes of an error travel. */
export const FAILURE_CAUSES = 8

/** Timers hold a signed 32-bit count of milliseconds (24.8 days); a later deadline fires at once, so none is set. */
export const MAX_TIMER_MS = 2 ** 31 - 1

/** How long a running function may go on after its abort signal fired. */
export const GRACE_MS = 2_000

/** How long a worker may take to exit after it was told to stop. */
export const STOP_MS = 5_000

/** A worker that dies so often in a row before it is ready makes its pool fail. */
export const START_ATTEMPTS = 3

/** The most worker processes that one pool may have: a typing error must not fork a machine to death. */
export const MAX_PROCESSES = 1_024

/** Chunks of one imap that are pulled but not yet consumed: at least this many, and 4 per process. */
export const IMAP_WINDOW_CHUNKS = 16

/** Pings find a peer that vanished without closing its connection. */
export const KEEPALIVE_MS = 10_000

/** A ping that is not answered for so long ends the connection. */
export const KEEPALIVE_TIMEOUT_MS = 5_000

/** When a call that never started is worth sending again: a restart, or another server behind the same name. */
export const RETRY_MS = 1_000

/** A stream of calls is not read while its calls and outcomes hold more than this: its client has to wait, not our memory. */
export const STREAM_BYTES = 64 * 1024 * 1024

/** A client ends its stream of calls when it has had none for so long: an open stream would keep its process alive. */
export const STREAM_IDLE_MS = 500
