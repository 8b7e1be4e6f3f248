// Measures upload throughput for several HTTP/2 receive windows. upload.sh runs it in a network namespace with a delay.
//
//   node upload.mjs measure CONNECT_HOST LISTEN_HOST ROUND_TRIP_MS RESULTS.jsonl [WINDOW_BYTES ...]
//   node upload.mjs report RESULTS.jsonl [FIGURES.json]
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import { connect, createServer } from 'node:net'
import { availableParallelism, cpus, release } from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import grpc from '@grpc/grpc-js/package.json' with { type: 'json' }
import { Pool } from '../dist/client/index.js'
import { serve } from '../dist/server/index.js'

const MIB = 1024 * 1024
const ROUNDS = 5
const NODES_OWN = 65_535
// As in wire/protocol.ts.
const WINDOW_BYTES = 16 * MIB

/** Runs a farpool server. For another window than the default it patches http2 in this process. */
async function server(listen, window) {
  if (window !== WINDOW_BYTES) {
    const create = http2.createServer
    http2.createServer = (options) => {
      const made = create({ ...options, settings: { ...options.settings, initialWindowSize: window } })
      return made.prependListener('session', (session) => {
        const set = session.setLocalWindowSize.bind(session)
        session.setLocalWindowSize = () => set(window)
      })
    }
  }
  const modules = [fileURLToPath(new URL('functions.mjs', import.meta.url))]
  const running = await serve({ modules, listen, insecure: true, processes: 2, logLevel: 'warn' })
  console.log(running.address)
  process.stdin.on('end', () => running.stop().then(() => process.exit())).resume()
}

/** Returns the milliseconds of each round. A first round, for warming up, does not count. */
async function rounds(run) {
  await run()
  const times = []
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now()
    await run()
    times.push(performance.now() - start)
  }
  return times
}

/** The throughput of the network itself: 64 MiB over one TCP connection. */
async function bareTcp(host, listenHost) {
  const total = 64 * MIB
  const sink = createServer((socket) => {
    let bytes = 0
    socket.on('data', (data) => {
      bytes += data.length
      if (bytes % total === 0) socket.write('.')
    })
  })
  await once(sink.listen(0, listenHost), 'listening')
  const socket = connect(sink.address().port, host)
  await once(socket, 'connect')
  const times = await rounds(async () => {
    const got = once(socket, 'data')
    for (let sent = 0; sent < total; sent += MIB) {
      if (!socket.write(Buffer.alloc(MIB))) await once(socket, 'drain')
    }
    await got
  })
  socket.destroy()
  sink.close()
  return times
}

async function measure(host, listenHost, roundTrip, file, ...windows) {
  const record = (way, what, mib, times) => {
    appendFileSync(file, `${JSON.stringify({ roundTripMs: Number(roundTrip), way, what, mib, times })}\n`)
  }
  record('TCP', '64 MiB', 64, await bareTcp(host, listenHost))
  for (const window of windows.length > 0 ? windows.map(Number) : [NODES_OWN, WINDOW_BYTES]) {
    // With small windows over a distance an eighth of the data is enough; all of it would take a minute per round.
    const share = window === NODES_OWN && roundTrip !== '0' ? 8 : 1
    const many = Array.from({ length: 64 / share }, () => new Uint8Array(MIB))
    const one = new Uint8Array((32 / share) * MIB)
    const args = [fileURLToPath(import.meta.url), 'serve', `${listenHost}:0`, String(window)]
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    const [address] = await once(createInterface({ input: child.stdout }), 'line')
    const pool = new Pool(address.replace(listenHost, host))
    record(window, '64 x 1 MiB', many.length, await rounds(() => pool.map('length', many, { chunksize: 1 })))
    record(window, '1 x 32 MiB', one.length / MIB, await rounds(() => pool.apply('length', [one])))
    await pool.terminate()
    child.stdin.end()
    await once(child, 'exit')
  }
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1]
const sizeOf = (way) =>
  way === 'TCP' ? 'TCP alone' : `${way < MIB ? `${Math.round(way / 1024)} K` : `${way / MIB} M`}iB windows`

function report(file, figures) {
  const measured = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .map((row) => ({ ...row, mibPerSecond: (row.mib * 1000) / median(row.times) }))
  const machine = {
    cpu: cpus()[0]?.model,
    cpus: availableParallelism(),
    kernel: release(),
    node: process.version,
    'grpc-js': grpc.version,
    ...Object.fromEntries(
      ['tcp_congestion_control', 'tcp_rmem', 'tcp_wmem'].map((name) => [
        name,
        readFileSync(`/proc/sys/net/ipv4/${name}`, 'utf8').trim().replaceAll('\t', ' '),
      ]),
    ),
    delay: process.env.DELAY_BY,
  }
  const trips = [...new Set(measured.map((row) => row.roundTripMs))]
  const nameOf = (row) => `${row.what}, ${sizeOf(row.way)}`
  console.log(`| upload, MiB/s | ${trips.map((ms) => `${ms} ms`).join(' | ')} |`)
  console.log(`|---|${trips.map(() => '--:|').join('')}`)
  for (const name of new Set(measured.map(nameOf))) {
    const rows = measured.filter((row) => nameOf(row) === name)
    console.log(`| ${name} | ${rows.map(({ mibPerSecond: mib }) => mib.toFixed(mib < 10 ? 1 : 0)).join(' | ')} |`)
  }
  console.log(
    `\nMedians of ${ROUNDS}; 64 KiB windows over a distance with an eighth of the data. ${Object.entries(machine)
      .map(([name, value]) => `${name} ${value}`)
      .join('; ')}`,
  )
  if (figures) writeFileSync(figures, `${JSON.stringify({ machine, measured }, null, 2)}\n`)
}

const [role, ...args] = process.argv.slice(2)
if (role === 'serve') await server(args[0], Number(args[1]))
else if (role === 'measure') await measure(...args)
else if (role === 'report') report(...args)
