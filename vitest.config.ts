import { defineConfig } from 'vitest/config'

// Tiers, told apart by the file's name: `x.test.ts` touches no server, `x.pg.test.ts` needs PostgreSQL,
// `x.kafka.test.ts` needs Kafka too. One server of each kind serves the whole run. `x.long.test.ts` is
// as that, takes minutes, and runs by `npm run test:long` only.
const servers = './local-stack/test-servers.ts'

export default defineConfig({
  test: {
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // Most of the time is spent waiting for servers: more files at once than there are cores.
    maxWorkers: 3,
    projects: [
      {
        test: {
          name: 'pure',
          include: ['**/*.test.ts'],
          exclude: ['**/node_modules/**', '**/*.{pg,kafka,long}.test.ts'],
        },
      },
      { test: { name: 'pg', include: ['**/*.pg.test.ts'], globalSetup: [servers] } },
      { test: { name: 'kafka', include: ['**/*.kafka.test.ts'], globalSetup: [servers] } },
      { test: { name: 'long', include: ['**/*.long.test.ts'], globalSetup: [servers] } },
    ],
  },
})
