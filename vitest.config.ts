import { defineConfig } from 'vitest/config'

// Three tiers, told apart by the file's name: `x.test.ts` touches no server, `x.pg.test.ts` needs
// PostgreSQL, `x.kafka.test.ts` needs Kafka too. One server of each kind serves the whole run.
// `x.long.test.ts` takes minutes: `npm run test:long` runs those, one after the other.
const servers = './local-stack/test-servers.ts'

export default defineConfig({
  test: {
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // Each file of the kafka tier starts processes of its own: more at once make each other late.
    maxWorkers: 2,
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
