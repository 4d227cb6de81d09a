import type { ServiceName } from 'local-stack'
import type { Fault } from './faults.ts'
import { skipEvents } from './read-faults.ts'
import type { SourcePatch } from './source-patch.ts'

/** A product made wrong on purpose: a checker that does not see it is blind. */
export type Control = {
  name: string
  service: ServiceName
  patches: readonly SourcePatch[]
  /** The repair of the query side works: it mends what is wrong, which must be seen all the same. */
  repaired?: true
  /** Done to it before it comes to rest. */
  fault?: Fault
  /** The promises that must each be found broken. */
  breaks: readonly string[]
}

const commitsOffsetFirst: SourcePatch = {
  file: 'query-api/chunk.ts',
  find: '    const { next, heartbeats, stop } = content\n',
  put:
    '    const { next, heartbeats, stop } = content\n' +
    '    await saveOffset(transaction, place, content)\n' +
    "    await transaction.query('commit; begin')\n" +
    '    if (content.events.length > 0) drill.point()\n',
}

export const controls: readonly Control[] = [
  {
    name: 'progress before publish',
    service: 'outbox-relay',
    patches: [
      {
        file: 'outbox-relay/publishing.ts',
        find: '  const startedMs = now()\n  try {\n',
        put:
          '  saver.offer(progress(), { rows: [], refused: [] })\n  await saver.flush()\n' +
          '  drill.point()\n  const startedMs = now()\n  try {\n',
      },
    ],
    breaks: ['I1', 'I9'],
  },
  {
    name: 'repeated events are applied again',
    service: 'query-api',
    patches: [
      {
        file: 'query-api/guard.ts',
        find: 'if (version < wanted) {',
        put: 'if (false) {',
      },
    ],
    breaks: ['I4'],
  },
  {
    name: 'missing events are not noticed',
    service: 'query-api',
    patches: [
      {
        file: 'query-api/guard.ts',
        find: 'if (version > wanted || conflicts) {',
        // Of an account that was never seen opened, nothing could be applied.
        put: 'if ((version > wanted && head === undefined) || conflicts) {',
      },
    ],
    repaired: true,
    fault: skipEvents(),
    breaks: ['I4'],
  },
  {
    name: 'auto-commit of offsets',
    service: 'query-api',
    patches: [commitsOffsetFirst],
    breaks: ['I4'],
  },
  {
    name: 'auto-commit of offsets, and the feed repairs',
    service: 'query-api',
    patches: [commitsOffsetFirst],
    repaired: true,
    breaks: ['I4'],
  },
]
