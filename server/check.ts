import { FunctionTable } from '../pool/function-table.js'
import { Pool } from '../pool/pool.js'
import { failureOf } from '../pool/pools.js'
import type { FunctionInfo } from '../pool/process/worker-handle.js'
import { asFailure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import type { PoolConfig, ServeConfig } from './config.js'
import { poolDefaults } from './pool-defaults.js'
import { workerLauncher } from './worker-launcher.js'

/**
 * Loads the modules of each shared pool in one worker, and looks for their initializers, which are not called.
 * @throws Failure MODULE_LOAD_FAILED, FUNCTION_NOT_FOUND.
 */
export async function functionsOfPools(config: ServeConfig): Promise<Map<string, readonly FunctionInfo[]>> {
  const found = new Map<string, readonly FunctionInfo[]>()
  for (const [name, pool] of config.pools) {
    const functions = await functionsOf(name, pool, config).catch((error: unknown) => {
      throw config.pools.size === 1 ? error : failureOf(name, asFailure(error))
    })
    found.set(name, functions)
  }
  return found
}

async function functionsOf(name: string, config: PoolConfig, server: ServeConfig): Promise<readonly FunctionInfo[]> {
  const { initializer } = config
  const settings = poolDefaults(config, server)
  const launcher = workerLauncher(config, server)
  const pool = new Pool(name, {
    ...settings,
    launcher,
    processes: 1,
    initializer: '',
    initargs: [],
  })
  // A pool does not keep the program alive.
  const alive = setInterval(() => {}, MAX_TIMER_MS)
  try {
    const table = new FunctionTable(await pool.ready)
    if (initializer !== '' && !table.byName.has(initializer)) throw table.unknown(initializer)
    return table.all
  } finally {
    await pool.terminate()
    launcher.close()
    clearInterval(alive)
  }
}
