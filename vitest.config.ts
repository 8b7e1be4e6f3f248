import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  resolve: {
    // Tests use the package as its users do: the build, by its name.
    alias: [{ find: /^farpool$/, replacement: fileURLToPath(new URL('./dist/client/index.js', import.meta.url)) }],
  },
  test: { include: ['test/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000, maxWorkers: 2 },
})
