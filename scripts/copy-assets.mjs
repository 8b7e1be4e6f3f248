// What the build needs beside the compiled code: the descriptor set for reflection, and an executable command.
import { chmodSync, copyFileSync, mkdirSync } from 'node:fs'

mkdirSync('dist/proto/gen', { recursive: true })
copyFileSync('proto/gen/farpool.binpb', 'dist/proto/gen/farpool.binpb')
chmodSync('dist/cli/main.js', 0o755)
