// Completes the build: copies the descriptor sets for server reflection and makes the command executable.
import { chmodSync, copyFileSync, mkdirSync } from 'node:fs'

mkdirSync('dist/proto/gen', { recursive: true })
for (const set of ['farpool.binpb', 'health.binpb']) copyFileSync(`proto/gen/${set}`, `dist/proto/gen/${set}`)
chmodSync('dist/cli/main.js', 0o755)
