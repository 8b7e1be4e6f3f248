import { NodeLauncher } from '../pool/process/launcher.js'
import type { PoolConfig, ServeConfig } from './config.js'

/**
 * The environment variables that workers always get: where programs and files are, language and time zone, and what Node and
 * the libraries that it loads read. None of them usually holds a secret.
 */
const USUAL_ENV = [
  ...['PATH', 'HOME', 'LANG', 'LANGUAGE', 'LC_*', 'TZ', 'TMPDIR', 'TEMP', 'TMP'],
  ...[
    'NODE_ENV',
    'NODE_OPTIONS',
    'NODE_PATH',
    'NODE_EXTRA_CA_CERTS',
    'NODE_COMPILE_CACHE',
    'NODE_DISABLE_COMPILE_CACHE',
  ],
  ...['SSL_CERT_FILE', 'SSL_CERT_DIR', 'LD_LIBRARY_PATH', 'UV_THREADPOOL_SIZE', 'FORCE_COLOR', 'NO_COLOR'],
]

/** Starts the workers of a server: with the environment and as the user that its options say. */
export function workerLauncher({ maxHeapMb }: PoolConfig, { workerNice, workerEnv, workerUser }: ServeConfig) {
  const [uid, gid] = workerUser?.split(':').map(Number) ?? []
  const names = [...USUAL_ENV, ...workerEnv]
  // Where another user has no HOME, programs look up the one that belongs to it.
  const env = environment(process.env, uid === undefined ? names : names.filter((name) => name !== 'HOME'))
  return new NodeLauncher(maxHeapMb, workerNice, { env, uid, gid })
}

/** @param names may end with `*`, which stands for any rest. */
function environment(env: NodeJS.ProcessEnv, names: readonly string[]): NodeJS.ProcessEnv {
  const isNamed = (name: string) =>
    names.some((one) => (one.endsWith('*') ? name.startsWith(one.slice(0, -1)) : name === one))
  return Object.fromEntries(Object.entries(env).filter(([name]) => isNamed(name)))
}
