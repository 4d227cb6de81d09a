import type { SourcePatch } from '../source-patch.ts'

// Where a leader is killed or stopped in a switch. Before each action outside it writes the action's
// name; so `before` that write is after the action that came before, and `at` is after the write and
// after the look at the lease, right before the action itself.

export const modes = ['polling', 'wal', 'debezium'] as const
export type Mode = (typeof modes)[number]
export type Direction = { from: Mode; to: Mode }

export const directions: readonly Direction[] = modes.flatMap((from) =>
  modes.filter((to) => to !== from).map((to) => ({ from, to })),
)

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

/** Every place that a switch passes, in its order. */
export function placesOf({ from, to }: Direction): string[] {
  const steps = [...stepsOutOf[from], ...stepsInto[to]]
  return [
    ...steps.flatMap((step) => [`before ${step}`, `at ${step}`]),
    'before arrival',
    'after arrival',
  ]
}

const file = 'outbox-relay/course.ts'
const write = '    if (this.#row.switching !== null) await saveStep(db, lease.epoch, step)\n'
const held = '    lease.assertHeld()\n'
const finish = '    const finished = await finishSwitch(db, lease.epoch, this.#goal)\n'

/** Loaded by every relay of the drill; they do nothing until a place is armed. */
export const places: readonly SourcePatch[] = [
  { file, find: write, put: `    drill.reach('before ' + step)\n${write}` },
  { file, find: held, put: `${held}    drill.reach('at ' + step)\n` },
  {
    file,
    find: finish,
    put: `    drill.reach('before arrival')\n${finish}    drill.reach('after arrival')\n`,
  },
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
