import { expect, test } from 'vitest'
import { differences } from './left-behind.ts'

const nothing = { slots: [], connectors: [] }

test('a slot or a connector of an epoch that is over is told, and one in use that is gone', () => {
  const used = { slots: ['sluice_wal_5_7'], connectors: [] }
  expect(differences(used, used)).toEqual([])
  expect(differences({ ...used, slots: ['sluice_wal_5_6', 'sluice_wal_5_7'] }, used)).toEqual([
    'slots left behind: sluice_wal_5_6',
  ])
  expect(differences({ ...nothing, connectors: ['sluice-outbox-1-5-6'] }, nothing)).toEqual([
    'connectors left behind: sluice-outbox-1-5-6',
  ])
  expect(differences(nothing, used)).toEqual(['slots missing: sluice_wal_5_7'])
})
