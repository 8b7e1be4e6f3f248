import type { LogFormat, LogLevel } from './ops/log.js'

/** What a shared pool is made of. Times are in milliseconds. */
export interface SharedPoolOptions {
  /** The modules that export the functions: paths (from the working directory) or file: URLs. At least one. */
  modules: readonly (string | URL)[]
  /** The number of workers. Default: the CPUs that this process may use. As `processes` of multiprocessing.Pool. */
  processes?: number
  /** The name of a function that each worker calls when it starts. */
  initializer?: string
  /** Its arguments. */
  initargs?: readonly unknown[]
  /** The path of a file with its arguments, a JSON array, in place of `initargs`. */
  initargsFile?: string
  /** Replaces a worker after this number of tasks. Default: never. */
  maxTasksPerChild?: number
  /** How long a function may go on after its call was cancelled; then its process is killed. Default 2000. */
  graceMs?: number
  /** How long a worker may take to load the modules and run the initializer; 0 for any time. Default 60000. */
  startTimeoutMs?: number
  /** How long a task may run, unless its call or its function says otherwise. Default 0: any time. */
  runTimeoutMs?: number
  /** The heap of each worker, in MiB, as Node's --max-old-space-size. A function that needs more ends with WORKER_OOM. Default: Node's own. */
  maxHeapMb?: number
  /** Replaces a worker after a task if it has more resident memory than this, in MiB. Default: never. */
  maxRssMb?: number
  /** The most tasks that wait in a pool: of all clients (default 1,000,000), and of one (default: the same). More fail with QUEUE_FULL. */
  maxQueued?: number
  maxQueuedPerClient?: number
  /** The most workers that run tasks of one client at once. The others stay free for other clients. Default: all. */
  maxRunningPerClient?: number
  /** How many bytes of arguments may wait. Default 1 GiB. */
  maxQueuedBytes?: number
}

/** The options of a server: of its shared pool `default`, and of the server itself. */
export interface ServeOptions extends SharedPoolOptions {
  /** `host:port` (port 0 for a free one) or `unix:/path/to.sock`. Default `127.0.0.1:50051`. */
  listen?: string
  /** The permissions of a Unix socket, in octal digits. Default '0600'. */
  socketMode?: string
  /**
   * The paths of PEM files: the certificate of the server (followed by those between it and its CA), and its private key.
   * Both are read again when they change. Default: no TLS.
   */
  tlsCert?: string
  tlsKey?: string
  /** The path of a PEM file of CAs: each client must have a certificate of one of them. Default: clients need none. */
  tlsClientCa?: string
  /**
   * A YAML or JSON file of the tokens that clients need, and of what each may do (docs/how-to/authenticate.md). It is read
   * again when it changes. Default: clients need no token.
   */
  tokens?: string
  /**
   * Lets a server listen beyond loopback addresses and Unix sockets without TLS, or without tokens and a client CA, so that
   * everybody in its network can run the functions. Default false.
   */
  insecure?: boolean
  /**
   * Further shared pools, by name: `new Pool(address, { pool: 'images' })` uses one. An option that it does not set is that
   * of the server, except for the initializer and its arguments.
   */
  pools?: Readonly<Record<string, SharedPoolOptions>>
  /**
   * The niceness of workers, added to that of the server, 0 to 19. When server and worker want the same CPU, the server gets
   * most of it, because all clients wait for the server and only one waits for the function. Default 5, which leaves the
   * function a quarter of that CPU.
   */
  workerNice?: number
  /**
   * The environment variables that workers get besides the usual ones (docs/explanation/security.md). A name can end with `*`; `['*']`
   * stands for all. Default: none.
   */
  workerEnv?: readonly string[]
  /** The user and the group that workers run as: `UID:GID`. The server must run as root. Default: those of the server. */
  workerUser?: string
  /** How many pools clients may have open at once. Default 1,000. */
  maxPools?: number
  /** How many worker processes all pools may have together. Default 1,024. */
  maxProcesses?: number
  /** How long calls in flight may take to end when the server shuts down, in milliseconds. Default 30000. */
  drainMs?: number
  /**
   * How long a client may not answer the server's pings, in milliseconds, because it computes or stands at a breakpoint. Then
   * its connection ends, and with it its pools and, 5 s later, its calls. Default 300000.
   */
  pingTimeoutMs?: number
  /** Ends the start of the server when it fires: `serve` rejects with CANCELLED when nothing of it is left. Default: none. */
  signal?: AbortSignal
  /** The largest message, in bytes. Default: 72 MiB, or a quarter of `maxHeldBytes` if that is less. */
  maxMessageBytes?: number
  /**
   * How many connections may be open. Beyond it, those that are idle are closed, the longest idle first; if none is, new ones
   * get health checks only. Default: 1000, or fewer where this process may use little memory.
   */
  maxConnections?: number
  /** How many connections from one IP address may be open. Default: no limit but `maxConnections`. */
  maxConnectionsPerAddress?: number
  /** The most open RPCs of one connection; its client keeps further ones back. Default 1000. */
  maxStreams?: number
  /** The most bytes of all headers of a call, 32 more for each header. Default 16384. */
  maxMetadataBytes?: number
  /**
   * The most bytes that the server holds for all its clients: requests without an answer, and answers that have not been
   * read. At least 4 × `maxMessageBytes`. Default: 1 GiB, or a quarter of the memory that is left beside the server and its
   * workers if that is less.
   */
  maxHeldBytes?: number
  /** Whether clients may close and terminate the shared pools. Default false. */
  allowTerminate?: boolean
  /** Whether the server offers gRPC reflection. Default: only on loopback addresses and Unix sockets, and without tokens. */
  reflection?: boolean
  /** Whether failures carry the stacks of functions. Default: only where `listen` is a loopback address or a Unix socket. */
  stacks?: boolean
  /** Default 'info'. */
  logLevel?: LogLevel
  /** How the log looks: 'pretty' for people, or 'json', one object for each line. Default: 'pretty' on a terminal, else 'json'. */
  logFormat?: LogFormat
  /**
   * Replaces the workers when a file of the modules has changed: a module, or what it imports by a relative path. For
   * development. Default false.
   */
  watch?: boolean
}

/** A shared pool, checked and complete. */
export interface PoolConfig
  extends Required<
    Omit<SharedPoolOptions, 'modules' | 'initargsFile' | 'maxTasksPerChild' | 'maxHeapMb' | 'maxRunningPerClient'>
  > {
  /** Absolute paths of files that exist. */
  modules: readonly string[]
  initargsFile: string | undefined
  maxTasksPerChild: number | undefined
  maxHeapMb: number | undefined
  maxRunningPerClient: number | undefined
}

/** The options of a server, checked and complete (server/resolve-config.ts). */
export interface ServeConfig
  extends PoolConfig,
    Required<
      Omit<
        ServeOptions,
        | keyof SharedPoolOptions
        | 'signal'
        | 'pools'
        | 'tlsCert'
        | 'tlsKey'
        | 'tlsClientCa'
        | 'tokens'
        | 'maxConnectionsPerAddress'
        | 'workerUser'
      >
    > {
  tlsCert: string | undefined
  tlsKey: string | undefined
  tlsClientCa: string | undefined
  tokens: string | undefined
  workerUser: string | undefined
  maxConnectionsPerAddress: number | undefined
  /** All shared pools, the one named `default` too. */
  pools: ReadonlyMap<string, PoolConfig>
}
