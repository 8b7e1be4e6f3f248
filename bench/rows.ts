/** One measurement: the peers to compare with, and the targets. */
export interface Row {
  readonly id: string
  readonly title: string
  /** The number of calls or items in one run. Slow peers, in `fewer`, get a smaller number. */
  readonly n: number
  readonly fewer?: Readonly<Record<string, number>>
  /** The unit of all figures of this row. */
  readonly unit: string
  /** A smaller figure is better. */
  readonly less?: true
  readonly figures: readonly string[]
  /** farpool first. */
  readonly peers: readonly string[]
  readonly targets: readonly Target[]
}

/** A bound for farpool's figure divided by a peer's. */
export interface Target {
  readonly figure: string
  readonly peer: string
  /** The name of the peer's figure, if it is different. */
  readonly peerFigure?: string
  readonly atLeast?: number
  readonly atMost?: number
  /** The ratio is of the difference: (farpool's figure - the peer's) / the peer's. */
  readonly added?: true
}

/** The command of each peer. */
export const PEERS: Readonly<Record<string, readonly string[]>> = {
  farpool: ['node', 'farpool.js'],
  'farpool server': ['node', 'farpool-server.js'],
  'farpool server, 1k': ['node', 'farpool-server.js'],
  'farpool growth': ['node', 'farpool-growth.js'],
  'CPython Pool': ['python3', 'cpython.py'],
  'grpc-js unary': ['node', 'grpc.js', 'unary'],
  'grpc-js stream': ['node', 'grpc.js', 'stream'],
  socket: ['node', 'socket.js'],
  piscina: ['node', 'piscina.js'],
  tinypool: ['node', 'tinypool.js'],
  workerpool: ['node', 'workerpool.js'],
  BullMQ: ['node', 'bullmq.js'],
  'bare Node': ['node', 'bare.js'],
}

const NODE_POOLS = ['piscina', 'tinypool', 'workerpool']
const RAW = ['grpc-js unary', 'grpc-js stream', 'socket']
const rate = ['rate'] as const

const map = (id: string, title: string, n: number, least: number): Row => ({
  id,
  title,
  n,
  unit: 'items/s',
  figures: rate,
  peers: ['farpool', 'CPython Pool'],
  targets: [{ figure: 'rate', peer: 'CPython Pool', atLeast: least }],
})

export const ROWS: readonly Row[] = [
  {
    id: 'sequence',
    title: 'apply, one after another',
    n: 4_000,
    fewer: { BullMQ: 500 },
    unit: 'calls/s',
    figures: rate,
    peers: ['farpool', 'CPython Pool', ...RAW, ...NODE_POOLS, 'BullMQ'],
    targets: [
      { figure: 'rate', peer: 'CPython Pool', atLeast: 1.3 },
      { figure: 'rate', peer: 'grpc-js unary', atLeast: 2.5 },
    ],
  },
  {
    id: 'burst',
    title: 'applyAsync, burst of 100k',
    n: 100_000,
    fewer: { 'grpc-js unary': 20_000, tinypool: 30_000, workerpool: 30_000, BullMQ: 5_000 },
    unit: 'calls/s',
    figures: rate,
    peers: ['farpool', 'CPython Pool', ...RAW, ...NODE_POOLS, 'BullMQ'],
    targets: [
      { figure: 'rate', peer: 'CPython Pool', atLeast: 4 },
      { figure: 'rate', peer: 'tinypool', atLeast: 8 },
      { figure: 'rate', peer: 'workerpool', atLeast: 8 },
      { figure: 'rate', peer: 'grpc-js unary', atLeast: 10 },
    ],
  },
  map('map-integers', 'map of 1M integers, default chunks', 1_000_000, 1.2),
  map('map-floats', 'map of 1M floats, default chunks', 1_000_000, 1.2),
  map('map-strings', 'map of 1M short strings, default chunks', 1_000_000, 1.2),
  map('map-1', 'map of 100k, chunksize 1', 100_000, 2.5),
  map('imap-1', 'imap of 100k, chunksize 1', 100_000, 2.5),
  map('imap-unordered-1000', 'imapUnordered of 1M, chunksize 1000', 1_000_000, 1),
  {
    id: 'echo',
    title: '1 MiB echo, 4 in flight',
    n: 200,
    fewer: { tinypool: 12, workerpool: 16 },
    unit: 'MiB/s',
    figures: rate,
    peers: ['farpool', 'CPython Pool', ...RAW, ...NODE_POOLS],
    targets: [
      { figure: 'rate', peer: 'grpc-js stream', atLeast: 0.8 },
      { figure: 'rate', peer: 'workerpool', atLeast: 20 },
    ],
  },
  {
    id: 'work',
    title: '10 ms of work, 2 processes',
    n: 400,
    unit: 'calls/s',
    figures: rate,
    peers: ['farpool', 'bare Node'],
    targets: [{ figure: 'rate', peer: 'bare Node', atLeast: 0.97 }],
  },
  {
    id: 'latency',
    title: 'a lone apply',
    n: 4_000,
    unit: 'ms',
    less: true,
    figures: ['p50', 'p99'],
    peers: ['farpool', 'grpc-js stream', 'socket'],
    targets: [
      { figure: 'p50', peer: 'grpc-js stream', atMost: 1.5, added: true },
      { figure: 'p99', peer: 'grpc-js stream', atMost: 2, added: true },
    ],
  },
  {
    id: 'fair',
    title: "a lone apply under another client's 1M tasks",
    n: 1_000_000,
    unit: 'ms; tasks in the queue',
    less: true,
    figures: ['p50', 'p99', 'queued'],
    peers: ['farpool server'],
    targets: [],
  },
  {
    id: 'open',
    title: 'own pool of 2, open to first result',
    n: 1,
    unit: 'ms',
    less: true,
    figures: ['ms'],
    peers: ['farpool server', 'bare Node'],
    targets: [{ figure: 'ms', peer: 'bare Node', atMost: 2.5 }],
  },
  {
    id: 'memory',
    title: 'resident memory, idle',
    n: 1,
    unit: 'MiB',
    less: true,
    figures: ['worker', 'server', 'rss'],
    peers: ['farpool server', 'bare Node'],
    targets: [
      { figure: 'worker', peer: 'bare Node', peerFigure: 'rss', atMost: 1.15 },
      { figure: 'server', peer: 'bare Node', peerFigure: 'rss', atMost: 1.6 },
    ],
  },
  {
    id: 'queue',
    title: 'a queue of 1M tasks',
    n: 1_000_000,
    fewer: { 'farpool server, 1k': 1_000 },
    unit: 'µs per task; server memory after : before',
    less: true,
    figures: ['us', 'rss'],
    peers: ['farpool server', 'farpool server, 1k'],
    targets: [
      { figure: 'us', peer: 'farpool server, 1k', atMost: 1.3 },
      { figure: 'rss', peer: '', atMost: 1.3 },
    ],
  },
]
