import type { SourcePatch } from '../source-patch.ts'

const file = 'outbox-relay/parked-release.ts'
const parking = 'outbox-relay/parking.ts'
const saver = 'outbox-relay/progress-saver.ts'
const refuses = '    parked.add(aggregateOf(refused.row))\n'
const saves = '    if (changed && !(await this.#options.save(changes))) {\n'
const saved = '    this.#saved = progress\n'
const sends = '  const refused = await refusedOf(rows, send)\n'
const removes =
  '    requireEpoch(await removeCopies(db, tenure, { ...aggregate, upTo: last[0] }))\n'
const unparks = '  const released = await unpark(db, tenure, aggregate)\n'

/** Of parking: the refusal, and the save of what is held for it. */
export const placesOfParking = [
  'after a refusal',
  'before what is held is saved',
  'after what is held is saved',
] as const

/** Of one turn of a release, in its order: around each of its actions. */
export const placesOfRelease = [
  'before it sends',
  'after it has sent',
  'after the copies are gone',
  'before it is parked no more',
  'after it is parked no more',
] as const

type Place = (typeof placesOfParking | typeof placesOfRelease)[number]
const reach = (place: Place) => `drill.reach('${place}')\n`
const reachHolding = (place: Place) => `    if (held.rows.length > 0) ${reach(place)}`
const places = placesOfRelease

/** They do nothing until a place is armed. */
export const parkingAndReleasing: readonly SourcePatch[] = [
  { file: parking, find: refuses, put: `${refuses}    ${reach(placesOfParking[0])}` },
  { file: saver, find: saves, put: `${reachHolding(placesOfParking[1])}${saves}` },
  { file: saver, find: saved, put: `${saved}${reachHolding(placesOfParking[2])}` },
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
