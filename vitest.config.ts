import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  resolve: {
    // Tests use the package as its users do: the build, by its name.
    alias: [{ find: /^farpool$/, replacement: fileURLToPath(new URL('./dist/client/index.js', import.meta.url)) }],
  },
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    projects: [
      // `npm test`: unit and integration, and a taste of the heavy suites.
      { extends: true, test: { name: 'quick', include: ['test/*.test.ts', 'test/{unit,integration}/**/*.test.ts'] } },
      // `npm run test:all` runs these too: suites that wait for real time-outs, use much memory, or attack the server.
      {
        extends: true,
        test: { name: 'heavy', include: ['test/{faults,attack,chaos,demo,fuzz,neighbour,network}/**/*.test.ts'] },
      },
    ],
  },
})
