import type { SourcePatch } from '../source-patch.ts'

const file = 'outbox-relay/parked-release.ts'
const sends = '  const refused = await refusedOf(rows, send)\n'
const removes =
  '    requireEpoch(await removeCopies(db, tenure, { ...aggregate, upTo: last[0] }))\n'
const unparks = '  const released = await unpark(db, tenure, aggregate)\n'

/** Of one turn of a release, in its order: around each of its actions. */
export const places = [
  'before it sends',
  'after it has sent',
  'after the copies are gone',
  'before it is parked no more',
  'after it is parked no more',
] as const

const reach = (place: (typeof places)[number]) => `drill.reach('${place}')\n`

/** They do nothing until a place is armed. */
export const releasing: readonly SourcePatch[] = [
  { file, find: sends, put: `  ${reach(places[0])}${sends}  ${reach(places[1])}` },
  { file, find: removes, put: `${removes}    ${reach(places[2])}` },
  { file, find: unparks, put: `  ${reach(places[3])}${unparks}  ${reach(places[4])}` },
]

/** The product made wrong: of a batch that was read beside the one in flight nobody looks again. */
export const atReadAhead: readonly SourcePatch[] = [
  {
    file: 'outbox-relay/leadership.ts',
    find: '  const parked = new ParkedAggregates(await loadParked(pool))\n',
    put:
      '  const parked = new ParkedAggregates(await loadParked(pool))\n' +
      '  Object.assign(drill, { parked, held: new Set() })\n',
  },
  {
    file: 'outbox-relay/polling.ts',
    find: '  const reading = polling.read(progress)\n',
    put:
      '  const reading = polling.read(progress).then((batch) => {\n' +
      '    for (const row of batch.rows) {\n' +
      '      if (drill.parked.has({ aggregateType: row[2], aggregateId: row[3] })) drill.held.add(row)\n' +
      '    }\n' +
      '    return batch\n' +
      '  })\n',
  },
  {
    file: 'outbox-relay/parking.ts',
    find: 'const isParked = (row: OutboxRow) => parked.has(aggregateOf(row))\n',
    put:
      'const isParked = (row: OutboxRow) =>\n' +
      '    drill.held.has(row) || held.refused.some((each) => each.row[3] === row[3])\n',
  },
]
