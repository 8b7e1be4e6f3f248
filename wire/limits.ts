/** Every number of the protocol, with its reason. Milliseconds and bytes. */

/** Largest gRPC message by default: a 64 MiB payload with room for what stands around it. */
export const MAX_MESSAGE_BYTES = 72 * 1024 * 1024

/** Largest frame between server and worker: one message and its routing fields. */
export const MAX_FRAME_BYTES = 1024 * 1024 * 1024

/** The client cuts the requests of a map at this size: each is on its way while the next is being encoded. */
export const REQUEST_TARGET_BYTES = 512 * 1024

/** A frame of IMap outcomes is sent when it holds this much: grpc-js counts messages, not bytes, for backpressure. */
export const FRAME_TARGET_BYTES = 256 * 1024

/** A message of calls has at most so many: the server takes it in one go, a few milliseconds, and others wait so long. */
export const FRAME_CALLS = 1_024

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

/** As nice as a process can be. */
export const NICEST = 19

/** By how much workers are nicer than their server. */
export const WORKER_NICE = 5

/** How long a running function may go on after its abort signal fired. */
export const GRACE_MS = 2_000

/** How long a worker may take to exit after it was told to stop. */
export const STOP_MS = 5_000

/** How long a worker may take to load its modules and run its initializer, by default. */
export const START_MS = 60_000

/** A worker that dies so often in a row before it is ready makes its pool fail. */
export const START_ATTEMPTS = 3

/** A task fails when so many workers in a row have died of being given it, before it began. */
export const BEGIN_ATTEMPTS = 3

/** The longest wait before another worker is started after many that died for nothing, and after many that died in tasks. */
export const MAX_START_DELAY_MS = 10_000
export const MAX_CRASH_DELAY_MS = 1_000

/** A worker that does not begin a task within so long, though it has nothing else to do, is killed; its task goes to another. */
export const BEGIN_MS = 10_000

/** A worker that has been stopped (SIGSTOP) for so long is killed: nobody may ever let it go on. */
export const STOPPED_MS = 5_000

/** How much likelier than by its size alone the kernel ends a worker, and not the server, for want of memory (of 1,000). */
export const OOM_SCORE = 500
/** The kernel's largest. A container may give its server nearly as much. */
export const MAX_OOM_SCORE = 1_000

/** A worker that may not grow beyond a size looks at it between two tasks, at most this often, in milliseconds. */
export const RSS_EVERY_MS = 100

/** What may wait in a pool, in tasks and bytes: a task takes some 300 bytes besides. */
export const MAX_QUEUED = 1_000_000
export const MAX_QUEUED_BYTES = 1024 * 1024 * 1024

/** How many pools clients may have open at once. */
export const MAX_POOLS = 1_000

/** The most worker processes that a server may have: a typing error must not fork a machine to death. */
export const MAX_PROCESSES = 1_024

/** Chunks of one Map request that are in the queue or running at once: as many as keep any pool at work. */
export const MAP_WINDOW_CHUNKS = 4_096

/** Chunks of one imap that are pulled but not yet consumed: at least this many, and 4 per process. */
export const IMAP_WINDOW_CHUNKS = 16

/**
 * Where chunks come back within IMAP_FAST_MS and the consumer waits for them, an imap's window grows, up to so many
 * chunks or bytes: a round trip takes as long as many short tasks.
 */
export const IMAP_FAST_MS = 20
export const IMAP_MAX_WINDOW_CHUNKS = 1_024
export const IMAP_WINDOW_BYTES = 4 * 1024 * 1024

/** A stream whose deadline has passed and whose end is not read is reset after so long. */
export const RESET_MS = 1_000

/** Pings find a peer that vanished without closing its connection. */
export const KEEPALIVE_MS = 10_000

/** A ping that is not answered for so long ends the connection. */
export const KEEPALIVE_TIMEOUT_MS = 5_000

/** A call that has found no connection in so long fails: that of a server which is there takes a few round trips. */
export const CONNECT_MS = 20_000

/**
 * When a call that never started is worth sending again, at the earliest: a queue has moved on, or there is another server
 * behind the same name. Clients add pauses of their own, which grow.
 */
export const RETRY_MS = 100

/** A stream of calls is not read while its calls and outcomes hold more than this: its client has to wait, not our memory. */
export const STREAM_BYTES = 64 * 1024 * 1024

/**
 * What a server holds for all its clients (server/rpc/budget.ts), unless a container leaves it less: half of it for one
 * alone. Beyond twice as much it cuts off whoever holds most.
 */
export const MAX_HELD_BYTES = 1024 * 1024 * 1024

/** What an open call of HTTP/2 takes by itself. */
export const OPEN_CALL_BYTES = 8 * 1024

/** Of an answer, so much is written ahead of what has been sent: enough for the next message to be there in time. */
export const UNSENT_BYTES = 512 * 1024

/** grpc-js copies a message behind its prefix, and has both until it is sent. */
export const UNSENT_COPIES = 2

/** What stands in front of each message in a stream: a flag and a length. */
export const MESSAGE_PREFIX_BYTES = 5

/** What an accepted call counts besides its arguments: with heap that waits to be collected it takes that much or less. */
export const CALL_BYTES = 4 * 1024

/**
 * How long the calls of a session outlive its stream, which a new one may take over: as long as a reconnect takes. Those
 * of a client that was killed live on as long, so not longer.
 */
export const RESUME_MS = 5_000

/** How many sessions may wait for a new stream at once; the oldest of the connection that has left most are given up. */
export const MAX_DETACHED = 1_000

/** One end of a session tells the other after so many messages, or bytes, how many it has received. */
export const ACK_MESSAGES = 32
export const ACK_BYTES = 4 * 1024 * 1024

/** A client sends a call again that has certainly not begun, with growing pauses, for so long. */
export const RESEND_MS = 10_000

/** A client ends its stream of calls when it has had none for so long: an open stream would keep its process alive. */
export const STREAM_IDLE_MS = 500

/** A worker is given short tasks ahead, as many as are expected to take so long altogether: many round trips' worth. */
export const HAND_MS = 1

/** Where many wait, one task that is expected to take at most so long is given ahead too: the round trip is a hundredth of it. */
export const AHEAD_MS = 50

/** A worker is given at most so many tasks ahead, and so many bytes. */
export const HAND_TASKS = 256
export const HAND_BYTES = 1024 * 1024

/** What a worker was given ahead and has not begun after so long goes to another: the one before it runs unexpectedly long. */
export const LEASE_MS = 10

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

/** Where a server holds much already: Node's own, the least that a peer may count on before it has greeted. */
export const NARROW_WINDOW_BYTES = 64 * 1024 - 1

/** Connections that a server holds; further ones are closed. Each takes a descriptor and some 100 KiB. */
export const MAX_CONNECTIONS = 1_000

/** Connections of one address that break HTTP/2 in a second before others of it wait. */
export const MAX_VIOLATIONS = 10

/**
 * Open calls of a connection; its client keeps further ones back. The calls of farpool's clients are one or two streams;
 * a plain stub has one for each, and where so many tasks of one client wait, a further stream is of no use to it.
 * An open stream takes 6 KiB and may hold a message.
 */
export const MAX_STREAMS = 1_000

/** Of those, how many may have been opened in the last second; and as many more as have been open for longer. */
export const NEW_STREAMS = 128

/** Calls of one connection that begin in one turn of the event loop: some milliseconds. */
export const BEGUN_IN_A_TURN = 8

/** The headers of a call altogether, as HTTP/2 counts them: 32 more for each. Python and Go refuse longer ones too. */
export const MAX_METADATA_BYTES = 16 * 1024

/** A connection that has not greeted in so long is closed: a greeting takes one round trip. */
export const HANDSHAKE_MS = 5_000

/**
 * A connection that resets more streams than these is closed; they are Node's numbers. The burst is at least twice
 * MAX_STREAMS: whoever gives up all its calls at once is no attacker.
 */
export const RESET_BURST = 1_000
export const RESETS_PER_SECOND = 33

/** What a status says again of a call's headers: longer than any path or encoding that there is. */
export const ECHO_CHARACTERS = 256

/**
 * What compressed messages of all clients take while they are unpacked and until their handlers have them. gzip packs
 * a thousand to one: 100 messages of 72 KiB would be 7 GiB. Never less than one message may take.
 */
export const UNPACKED_BYTES = 128 * 1024 * 1024

/** What the end of an answer counts until its stream is closed. */
export const END_BYTES = 64

/** A message that comes in pieces of less than PIECE_BYTES on average is joined, so many pieces at a time: each costs 130 bytes. */
export const PIECES = 512
export const PIECE_BYTES = 1_024

/**
 * Fields of a request in all its depth: calls, arguments, chunks. An empty one takes two bytes of a message and a hundred
 * and more of memory, and a call half a kilobyte: a message of the largest size could have 36 million.
 */
export const MAX_FIELDS = 256 * 1024
