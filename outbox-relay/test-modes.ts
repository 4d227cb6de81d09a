import { testConnect } from 'local-stack/test-connect'
import type { Mode } from './modes.ts'

// The modes as the tests of the promises see them. What a mode can do better than promised is not
// asked of it; what it cannot do is said here, once.

export type TestedMode = {
  name: Mode
  /** Beside what every relay is given; `cdcUrl` is that of sluice_cdc. */
  environment: (urls: { cdcUrl: string }) => Promise<Record<string, string>>
  /** An orderly stop saves all that was sent, so that the successor repeats nothing. */
  savesAllAtStop: boolean
  /** It sends to any Kafka, not only to the run's: its sender is the relay itself. */
  anyKafka: boolean
}

export const known: Record<Mode, TestedMode> = {
  polling: {
    name: 'polling',
    environment: async () => ({ RELAY_MODE: 'polling' }),
    savesAllAtStop: true,
    anyKafka: true,
  },
  wal: {
    name: 'wal',
    environment: async ({ cdcUrl }) => ({ RELAY_MODE: 'wal', CDC_DATABASE_URL: cdcUrl }),
    savesAllAtStop: true,
    anyKafka: true,
  },
  debezium: {
    name: 'debezium',
    environment: async ({ cdcUrl }) => ({
      RELAY_MODE: 'debezium',
      CDC_DATABASE_URL: cdcUrl,
      CONNECT_URL: await testConnect(),
    }),
    // Progress is made of checkpoints, which come after what was sent.
    savesAllAtStop: false,
    anyKafka: false,
  },
}

export const testedModes: readonly TestedMode[] = [known.polling, known.wal, known.debezium]

/** Those that need no Connect, which takes its time for everything. */
export const quickModes: readonly TestedMode[] = [known.polling, known.wal]
