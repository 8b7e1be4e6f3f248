// What the build needs beside the compiled code: the descriptor sets for reflection, and an executable command.
import { chmodSync, copyFileSync, mkdirSync } from 'node:fs'

mkdirSync('dist/proto/gen', { recursive: true })
for (const set of ['farpool.binpb', 'health.binpb']) copyFileSync(`proto/gen/${set}`, `dist/proto/gen/${set}`)
chmodSync('dist/cli/main.js', 0o755)
