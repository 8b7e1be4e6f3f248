/** One measurement: the peers to compare with, and the targets. */
export interface Row {
  readonly id: string
  readonly title: string
  /** What the peers are asked to run; the `id` by default. */
  readonly run?: string
  /** The number of calls or items in one run. Slow peers, in `fewer`, get a smaller number. */
  readonly n: number
  readonly fewer?: Readonly<Record<string, number>>
  /** `calls`: 10,000 lone calls before the first turn. `none`: every turn has a new process. Default: two turns. */
  readonly warmUp?: 'calls' | 'none'
  /** The unit of each figure. */
  readonly figures: Readonly<Record<string, string>>
  /** The peers that stand beside `farpool local` and beside `farpool remote`. Without the list, that side does not run. */
  readonly local?: readonly string[]
  readonly remote?: readonly string[]
  /** Or: a section of the report that lists all figures of these peers. */
  readonly section?: 'cold' | 'scale'
  readonly peers?: readonly string[]
  readonly targets: readonly Target[]
  /** How long a task takes, in milliseconds. */
  readonly taskMs?: number
  /** The row also appears in the section on CPU time. */
  readonly cpu?: true
  /** The row is a part of `--quick`. */
  readonly quick?: true
}

export type Side = 'local' | 'remote'

/** A bound for farpool's figure divided by a peer's. */
export interface Target {
  readonly side: Side
  readonly figure: string
  readonly peer: string
  /** The name of the peer's figure, if it is different. */
  readonly peerFigure?: string
  readonly atLeast?: number
  readonly atMost?: number
}

/** The numbers of workers for the question of how many one server can feed. */
const SCALE = [2, 8, 32, 64, 128]
const workers = (count: number) => `farpool remote, ${count} workers`

const TLS = 'farpool remote, TLS'

/** The command of each peer. `venv` is the Python that has the packages of requirements.txt. */
export const PEERS: Readonly<Record<string, readonly string[]>> = {
  'farpool local': ['node', 'farpool.js', 'local'],
  'farpool remote': ['node', 'farpool.js', 'remote'],
  [TLS]: ['node', 'farpool.js', 'remote', '2', 'tls'],
  'farpool remote, 1k': ['node', 'farpool.js', 'remote'],
  ...Object.fromEntries(SCALE.map((count) => [workers(count), ['node', 'farpool.js', 'remote', `${count}`]])),
  'farpool local, 64 workers': ['node', 'farpool.js', 'local', '64'],
  'farpool growth': ['node', 'farpool-growth.js'],
  'CPython Pool': ['python3', 'pools.py', 'cpython'],
  'CPython Pool, 64 workers': ['python3', 'pools.py', 'cpython', '64'],
  ProcessPoolExecutor: ['python3', 'pools.py', 'executor'],
  mpire: ['venv', 'pools.py', 'mpire'],
  joblib: ['venv', 'pools.py', 'joblib'],
  'Ray Pool': ['venv', 'pools.py', 'ray'],
  'grpc-js unary': ['node', 'grpc.js', 'unary'],
  'grpc-js stream': ['node', 'grpc.js', 'stream'],
  socket: ['node', 'socket.js'],
  piscina: ['node', 'piscina.js'],
  tinypool: ['node', 'tinypool.js'],
  'tinypool, 64 workers': ['node', 'tinypool.js', '64'],
  workerpool: ['node', 'workerpool.js'],
  poolifier: ['node', 'poolifier.js'],
  BullMQ: ['node', 'bullmq.js'],
  'bare Node': ['node', 'bare.js'],
}

/** The peers of `--quick`: none that has to be installed for Python. */
export const QUICK_PEERS: readonly string[] = [
  ...['farpool local', 'farpool remote', 'CPython Pool', 'tinypool', 'grpc-js stream', 'bare Node'],
  ...[workers(2), workers(8)],
]

/** The peers that a row measures, each once. */
export const peersOf = ({ local, remote, peers = [] }: Row): string[] => [
  ...new Set([
    ...(local ? ['farpool local'] : []),
    ...(remote ? ['farpool remote'] : []),
    ...[...(local ?? []), ...(remote ?? []), ...peers],
  ]),
]

const PYTHON_POOLS = ['CPython Pool', 'ProcessPoolExecutor', 'mpire', 'joblib', 'Ray Pool']
const NODE_POOLS = ['piscina', 'tinypool', 'workerpool', 'poolifier']
const RAW = ['grpc-js unary', 'grpc-js stream', 'socket']

/** @param least the targets of local and of remote. */
const map = (id: string, title: string, n: number, least: readonly [number, number], slow: Row['fewer'] & {}): Row => ({
  id,
  title,
  n,
  fewer: slow,
  figures: { rate: 'items/s' },
  local: PYTHON_POOLS,
  remote: ['CPython Pool', 'Ray Pool'],
  targets: [
    { side: 'local', figure: 'rate', peer: 'CPython Pool', atLeast: least[0] },
    { side: 'remote', figure: 'rate', peer: 'CPython Pool', atLeast: least[1] },
  ],
})
const CHUNKED = { joblib: 20_000, 'Ray Pool': 50_000, mpire: 200_000, ProcessPoolExecutor: 200_000 }
const SINGLE = { joblib: 3_000, 'Ray Pool': 500, ProcessPoolExecutor: 10_000, mpire: 20_000 }

const scale = (ms: number): Row => ({
  id: `scale-${ms}`,
  title: `tasks that sleep ${ms} ms`,
  run: `sleep-${ms}`,
  n: 60_000,
  // Enough for two seconds.
  fewer: Object.fromEntries(SCALE.map((count) => [workers(count), Math.min(60_000, (count * 2_000) / ms)])),
  figures: {
    rate: 'tasks/s',
    ideal: 'of workers ÷ time',
    'cpu server': 'µs per task',
    'server busy': 'cores',
    'cpu all': 'µs per task',
  },
  taskMs: ms,
  section: 'scale',
  peers: SCALE.map(workers),
  targets: [],
  ...(ms === 1 && { quick: true }),
})

export const ROWS: readonly Row[] = [
  {
    id: 'sequence',
    title: 'apply, one after another',
    n: 5_000,
    fewer: { BullMQ: 300, 'Ray Pool': 300, joblib: 300 },
    warmUp: 'calls',
    figures: { rate: 'calls/s', p50: 'µs', p99: 'µs' },
    local: [...PYTHON_POOLS, ...NODE_POOLS],
    remote: [TLS, ...RAW, 'BullMQ', 'Ray Pool'],
    targets: [
      { side: 'local', figure: 'rate', peer: 'CPython Pool', atLeast: 1.8 },
      { side: 'local', figure: 'rate', peer: 'tinypool', atLeast: 1.1 },
      { side: 'remote', figure: 'rate', peer: 'grpc-js unary', atLeast: 1.2 },
    ],
    cpu: true,
    quick: true,
  },
  {
    id: 'burst',
    title: 'applyAsync, burst of 100k',
    n: 100_000,
    fewer: {
      ...{ 'grpc-js unary': 20_000, socket: 20_000, BullMQ: 1_000 },
      ...{ piscina: 30_000, tinypool: 30_000, workerpool: 20_000, poolifier: 30_000 },
      ...{ ProcessPoolExecutor: 10_000, joblib: 2_000, 'Ray Pool': 1_000, mpire: 10_000 },
    },
    figures: { rate: 'calls/s' },
    local: [...PYTHON_POOLS, ...NODE_POOLS],
    remote: [TLS, ...RAW, 'BullMQ', 'Ray Pool'],
    targets: [
      { side: 'local', figure: 'rate', peer: 'CPython Pool', atLeast: 5 },
      { side: 'local', figure: 'rate', peer: 'tinypool', atLeast: 8 },
      { side: 'local', figure: 'rate', peer: 'workerpool', atLeast: 8 },
      { side: 'remote', figure: 'rate', peer: 'grpc-js unary', atLeast: 10 },
    ],
    cpu: true,
    quick: true,
  },
  { ...map('map-integers', 'map of 1M integers, default chunks', 1_000_000, [1.3, 1.05], CHUNKED), quick: true },
  map('map-floats', 'map of 1M floats, default chunks', 1_000_000, [1, 1], CHUNKED),
  map('map-strings', 'map of 1M short strings, default chunks', 1_000_000, [1.1, 0.8], CHUNKED),
  map('map-1', 'map of 100k, chunksize 1', 100_000, [3.5, 2], SINGLE),
  { ...map('imap-1', 'imap of 100k, chunksize 1', 100_000, [3.5, 2], SINGLE), cpu: true, quick: true },
  {
    ...map('imap-unordered-1000', 'imapUnordered of 1M, chunksize 1000', 1_000_000, [1.1, 0.8], CHUNKED),
    // ProcessPoolExecutor has no unordered map with chunks.
    local: PYTHON_POOLS.filter((peer) => peer !== 'ProcessPoolExecutor'),
  },
  {
    id: 'echo',
    title: '1 MiB echo, 4 in flight',
    n: 200,
    fewer: { tinypool: 12, workerpool: 16, joblib: 40, 'Ray Pool': 40 },
    figures: { rate: 'MiB/s' },
    local: [...PYTHON_POOLS, ...NODE_POOLS],
    remote: [TLS, ...RAW, 'Ray Pool'],
    targets: [
      { side: 'local', figure: 'rate', peer: 'CPython Pool', atLeast: 2 },
      { side: 'remote', figure: 'rate', peer: 'grpc-js stream', atLeast: 0.7 },
      { side: 'remote', figure: 'rate', peer: 'grpc-js unary', atLeast: 1 },
    ],
    quick: true,
  },
  {
    id: 'work',
    title: '10 ms of work, 2 processes',
    n: 400,
    warmUp: 'calls',
    figures: { rate: 'calls/s' },
    local: ['bare Node', ...NODE_POOLS],
    remote: ['bare Node'],
    targets: [{ side: 'local', figure: 'rate', peer: 'bare Node', atLeast: 0.97 }],
  },
  {
    id: 'open',
    title: 'pool of 2, open to first result',
    n: 1,
    figures: { ms: 'ms' },
    local: ['bare Node', 'CPython Pool', ...NODE_POOLS],
    remote: ['bare Node'],
    targets: [{ side: 'local', figure: 'ms', peer: 'bare Node', atMost: 1.3 }],
    quick: true,
  },
  {
    id: 'memory',
    title: 'resident memory, idle',
    n: 1,
    figures: { worker: 'MiB', server: 'MiB', caller: 'MiB' },
    local: ['bare Node'],
    remote: ['bare Node'],
    targets: [
      { side: 'local', figure: 'worker', peer: 'bare Node', atMost: 1.15 },
      { side: 'remote', figure: 'worker', peer: 'bare Node', atMost: 1.15 },
      { side: 'remote', figure: 'server', peer: 'bare Node', peerFigure: 'worker', atMost: 1.4 },
    ],
  },
  {
    id: 'fair',
    title: "a lone apply under another client's 1M tasks",
    n: 1_000_000,
    figures: { p50: 'µs', p99: 'µs', queued: 'tasks in the queue' },
    remote: [],
    targets: [],
  },
  {
    id: 'queue',
    title: 'a queue of 1M tasks',
    n: 1_000_000,
    fewer: { 'farpool remote, 1k': 1_000 },
    figures: { us: 'µs per task', rss: 'server memory after : before' },
    remote: ['farpool remote, 1k'],
    targets: [
      { side: 'remote', figure: 'us', peer: 'farpool remote, 1k', atMost: 1.3 },
      { side: 'remote', figure: 'rss', peer: '', atMost: 1.3 },
    ],
  },
  {
    id: 'cold',
    title: 'the first 1,000 lone calls of a program',
    run: 'sequence',
    n: 1_000,
    warmUp: 'none',
    figures: { mean: 'µs per call', p50: 'µs', p99: 'µs' },
    section: 'cold',
    peers: ['farpool local', 'farpool remote', 'CPython Pool', 'tinypool'],
    targets: [],
    quick: true,
  },
  {
    id: 'cold-64',
    title: 'the first seconds of 64 workers with tasks that sleep 1 ms, 256 in flight',
    run: 'seconds',
    n: 256,
    warmUp: 'none',
    figures: { 'second 1': 'tasks/s', 'second 2': 'tasks/s', 'second 3': 'tasks/s' },
    section: 'cold',
    peers: ['farpool local, 64 workers', workers(64), 'CPython Pool, 64 workers', 'tinypool, 64 workers'],
    targets: [],
  },
  scale(1),
  scale(10),
]
