import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The peers from PyPI live in a virtual environment beside the benchmark. */
const VENV = fileURLToPath(new URL('../.venv', import.meta.url))
const REQUIREMENTS = fileURLToPath(new URL('../requirements.txt', import.meta.url))

export const VENV_PYTHON = `${VENV}/bin/python`

/**
 * Installs the packages of requirements.txt, each for itself: Ray is not to be had for every Python, and the others run
 * without it. A peer whose package is missing cannot run; the report says so.
 */
export function installPythonPeers(): void {
  if (!existsSync(VENV_PYTHON) && !succeeds('python3', ['-m', 'venv', VENV])) return
  for (const line of readFileSync(REQUIREMENTS, 'utf8').split('\n'))
    if (line.includes('==')) succeeds(VENV_PYTHON, ['-m', 'pip', 'install', '-q', '--disable-pip-version-check', line])
}

/** The installed versions of the packages of requirements.txt. */
export function pythonVersions(): Record<string, string> {
  const names = [...readFileSync(REQUIREMENTS, 'utf8').matchAll(/^([\w-]+)==/gm)].map(([, name = '']) => name)
  const script = `import importlib.metadata, json
found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
print(json.dumps({n: found[n] for n in ${JSON.stringify(names)} if n in found}))`
  try {
    return JSON.parse(execFileSync(VENV_PYTHON, ['-c', script], { encoding: 'utf8' }))
  } catch {
    return {}
  }
}

function succeeds(command: string, args: string[]): boolean {
  try {
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
    return true
  } catch {
    process.stderr.write(`${[command, ...args].join(' ')} failed\n`)
    return false
  }
}
