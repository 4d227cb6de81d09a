import type { SourcePatch } from '../source-patch.ts'

// Where a leader is killed or stopped in a switch. Before each step it writes the step's name; so
// `before` that write is after the step that came before, and `at` is after the write and after the look
// at the lease, right before the step's first action outside. Where a step is several actions, there is a
// place after each of them.

export const modes = ['polling', 'wal', 'debezium'] as const
export type Mode = (typeof modes)[number]
export type Direction = { from: Mode; to: Mode }

export const directions: readonly Direction[] = modes.flatMap((from) =>
  modes.filter((to) => to !== from).map((to) => ({ from, to })),
)

const slotActions = ['after ending its use', 'after dropping it']
const removal = ['after PUT stop', 'after DELETE offsets', 'after DELETE connector']
/** What a step does one after the other, but for its last action, where the next place is. */
const actions: Record<string, readonly string[]> = {
  'remove connector': removal,
  'drop slot': slotActions,
  'make connector': ['after POST connector'],
  // Old offsets first, of a connector that never had any.
  'set offsets': ['after DELETE offsets', 'after PATCH offsets'],
}

const entering = ['remove leftovers', 'catch up', 'make slot', 'wait for writers', 'begin']
const stepsInto: Record<Mode, readonly string[]> = {
  polling: [],
  wal: entering,
  debezium: entering.toSpliced(3, 0, 'make connector', 'set offsets'),
}
const stepsOutOf: Record<Mode, readonly string[]> = {
  polling: ['leave'],
  wal: ['leave'],
  debezium: ['leave', 'remove connector', 'drop slot'],
}

export const nameOf = ({ from, to }: Direction) => `${from} to ${to}`

export const stepsOf = ({ from, to }: Direction) => [...stepsOutOf[from], ...stepsInto[to]]

/** Every place that a switch passes, in its order. */
export function placesOf({ from, to }: Direction): string[] {
  return [
    ...new Set([
      ...stepsOutOf[from].flatMap(placesOfStep),
      ...stepsInto[to].flatMap(placesOfStep),
      'before arrival',
      'after arrival',
      ...(to === 'wal' ? ['after START_REPLICATION'] : []),
    ]),
  ]
}

const placesOfStep = (step: string) => [`before ${step}`, `at ${step}`, ...(actions[step] ?? [])]

/** Where a switch is called off that has made something already, or is about to. */
export const calledOffAt: Record<'wal' | 'debezium', readonly string[]> = {
  wal: ['at wait for writers', 'at begin'],
  debezium: ['at make connector', 'at set offsets', 'at wait for writers', 'at begin'],
}
/** How a connector that was begun is taken down again, be the lease still held or not. */
export const undoing = ['before remove connector', ...removal, 'before drop slot', ...slotActions]

const course = 'outbox-relay/course.ts'
const write = '    if (this.#row.switching !== null) await saveStep(db, lease.epoch, step)\n'
const held = '    lease.assertHeld()\n'

const put = (file: string, place: string) => ({
  before: (find: string): SourcePatch => ({ file, find, put: `drill.reach('${place}')\n${find}` }),
  after: (find: string): SourcePatch => ({ file, find, put: `${find}drill.reach('${place}')\n` }),
})
const connect = 'connect/connector.ts'
const slots = 'outbox-relay/slots.ts'
const session = 'outbox-relay/wal/replication-session.ts'

/** Loaded by every relay of the drill; they do nothing until a place is armed. */
export const places: readonly SourcePatch[] = [
  { file: course, find: write, put: `    drill.reach('before ' + step)\n${write}` },
  { file: course, find: held, put: `${held}    drill.reach('at ' + step)\n` },
  put(course, 'before arrival').before('    const finished = await finishSwitch('),
  put(course, 'after arrival').before('    if (finished) this.#row = '),
  put(connect, 'after POST connector').before('  if (answer.status === 409) {\n'),
  put(connect, 'after PUT stop').after('path: `${pathOf(name)}/stop` })\n'),
  put(connect, 'after DELETE offsets').after(
    "await found(connect, { method: 'DELETE', path: `${pathOf(name)}/offsets` })\n",
  ),
  put(connect, 'after DELETE connector').before('  // Its status goes last, once'),
  put(connect, 'after PATCH offsets').after('"offset":${offset}}]}`,\n  })\n'),
  put(slots, 'after ending its use').before("    await run(\n      'relay-slots-drop',\n"),
  put(slots, 'after dropping it').before(
    "    const left = await run(\n      'relay-slots-left',\n",
  ),
  // The server's first word after it.
  put(session, 'after START_REPLICATION').before(
    '    if (this.#handlers === undefined) return\n    this.#heardMs',
  ),
]

/** The product made wrong: polling ends once it has caught up, before there is a slot. */
export const noHandover: readonly SourcePatch[] = [
  {
    file: 'outbox-relay/debezium/debezium-mode.ts',
    find: 'parked.size > 0 || handover.covers(batch)\n',
    put: 'handover.covers(batch) || batch.complete || parked.size > 0\n',
  },
  {
    file: 'outbox-relay/debezium/debezium-mode.ts',
    find: '    handover.take()\n',
    put:
      '    for (let taken = false; !taken; await new Promise((done) => setTimeout(done, 10))) {\n' +
      '      try {\n        handover.take()\n        taken = true\n      } catch {}\n    }\n',
  },
]
