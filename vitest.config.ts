import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

/** Short enough for `npm test`, though they stand in a folder of a long suite. */
const SHORT = ['test/attack/{client,worker}.test.ts', 'test/chaos/check.test.ts']

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
      {
        extends: true,
        test: {
          // `npm test`: everything that needs no long wait and little memory.
          // Its files share two processes: loading the client and grpc-js for each file would cost a fifth of the time.
          name: 'quick',
          include: ['test/*.test.ts', 'test/{unit,integration}/**/*.test.ts', ...SHORT],
          isolate: false,
        },
      },
      {
        extends: true,
        test: {
          // `npm run test:all` runs these too: real time-outs, much memory, attacks, chaos, mutated messages.
          // In each folder a file has a process of its own: some of them change what the process may use.
          name: 'long',
          include: ['test/{faults,attack,chaos,demo,docs,fuzz,neighbour,network}/**/*.test.ts'],
          exclude: SHORT,
        },
      },
    ],
  },
})
