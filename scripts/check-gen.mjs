// Checks that the committed generated code matches the .proto files. Leaves the fresh code in place.
import { execSync } from 'node:child_process'

execSync('npm run --silent gen', { stdio: 'inherit' })
const changed = execSync('git status --porcelain -- proto/gen', { encoding: 'utf8' })
if (changed !== '') {
  console.error(`generated code is not fresh; run "npm run gen" and commit:\n${changed}`)
  process.exit(1)
}
