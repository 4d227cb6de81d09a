import type { ServiceName } from 'local-stack'
import type { SourcePatch } from './source-patch.ts'

/** A place in a service's code at which it is killed with -9, by itself, in the middle of its work. */
export type KillPoint = { name: string; service: ServiceName; patch: SourcePatch }

const at = (
  service: ServiceName,
  name: string,
  patch: Omit<SourcePatch, 'file'> & { file: string },
): KillPoint => ({ name, service, patch: { ...patch, file: `${service}/${patch.file}` } })

const send =
  '  const startedMs = now()\n  try {\n' +
  '    const { sent, held } = await sendOrHold(rows, options)\n'
const confirmed = '    const after = progress()\n    saver.offer(after, held)\n'
const save = '    if (changed && !(await this.#options.save(changes))) {\n'
const writeCommands = "  await Promise.all([client.query(statement), client.query('commit')])\n"
const commitCommands = '  else await writeAndCommit(client, writeOf(work))\n  return outcomes\n'
const commitChunk = "    transaction.send({ text: 'commit' })\n"
const committed = '    await transaction.settle()\n  }\n}\n'

export const killPoints: readonly KillPoint[] = [
  at('outbox-relay', 'after read', {
    file: 'polling.ts',
    find: '    const batch = await reading\n',
    put: '    const batch = await reading\n    if (batch.rows.length > 0) drill.point()\n',
  }),
  at('outbox-relay', 'before produce', {
    file: 'publishing.ts',
    find: send,
    put: `  drill.point()\n${send}`,
  }),
  at('outbox-relay', 'after ack, before progress', {
    file: 'publishing.ts',
    find: confirmed,
    put: confirmed.replace('    saver', '    drill.point()\n    saver'),
  }),
  at('outbox-relay', 'inside the progress transaction', {
    file: 'progress-saver.ts',
    find: save,
    // The statement is on its way when the process ends, and may or may not commit.
    put: `    if (changed && drill.due()) {
      void this.#options.save(changes)
      drillSoon(() => drill.die())
      await new Promise(() => {})
    }
${save}`,
  }),
  at('outbox-relay', 'during shutdown', {
    file: 'polling.ts',
    find: "  await saver.flush()\n  // The connection is somebody else's next.\n",
    put: '  if (stop.aborted) drill.die()\n  await saver.flush()\n',
  }),
  at('command-api', 'before commit', {
    file: 'ledger.ts',
    find: writeCommands,
    put: `  drill.point()\n${writeCommands}`,
  }),
  at('command-api', 'after commit, before the answer', {
    file: 'batch.ts',
    find: commitCommands,
    put: commitCommands.replace('  return', '  drill.point()\n  return'),
  }),
  at('query-api', 'before commit', {
    file: 'transaction.ts',
    find: commitChunk,
    put: `    drill.point()\n${commitChunk}`,
  }),
  at('query-api', 'after commit', {
    file: 'transaction.ts',
    find: committed,
    put: committed.replace('  }\n}', '    drill.point()\n  }\n}'),
  }),
]
