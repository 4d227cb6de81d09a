import { expect, test } from 'vitest'
import { madeUpTo } from './names.ts'

test('only what this database made, and no later epoch, is one’s own to remove', () => {
  const prefix = 'sluice-outbox-7-5-'
  const names = [
    `${prefix}1`,
    `${prefix}9`,
    `${prefix}10`,
    `${prefix}11`,
    `${prefix}x`,
    prefix,
    `${prefix}1-2`,
    'sluice-outbox-7-51-1',
    'sluice-outbox-1',
    'somebody-elses-3',
  ]
  expect(madeUpTo(10n, names, prefix)).toEqual(names.slice(0, 3))
})
