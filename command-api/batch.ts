import { Problem } from 'service/problem'
import type { ClientBase } from 'pg'
import { decide, evolve, type Account, type AccountCommand } from './account.ts'
import { acceptedAnswer, refusedAnswer, type Answer } from './answer.ts'
import type { AccountEvent } from './events.ts'
import {
  beginBatch,
  writeAndCommit,
  type BatchWrite,
  type CommandKey,
  type RecordedEvent,
} from './ledger.ts'
import { problem } from './problems.ts'

// Commands that arrived together share one transaction, and no caller can tell: each is decided in
// order of arrival against the state that those before it left, and answered by itself.

export type CommandRequest = CommandKey & {
  /** SHA-256 over method, path and body: tells a repeat from another request under the key. */
  fingerprint: Buffer
  /** Also the causation id of its events. */
  commandId: string
  command: AccountCommand
  /** The ETags that If-Match wants, any of them; undefined when it was not sent. */
  ifMatch: ReadonlySet<string> | undefined
  trace: { traceparent: string; traceId: string; correlationId: string }
}

export type Outcome =
  | { kind: 'answered'; answer: Answer }
  /** Another transaction holds the key: come again. */
  | { kind: 'key_held' }
  /** A bug met by this command alone. */
  | { kind: 'faulted'; error: unknown }

/** What the batch knows while it decides: answers by key, accounts as they stand. */
type Work = {
  answers: Map<string, { fingerprint: Buffer; answer: Answer }>
  accounts: Map<string, Account>
  fromVersions: Map<string, number>
  write: { events: RecordedEvent[]; answers: BatchWrite['answers'][number][] }
  newId: () => string
}

const keyText = ({ caller, key }: CommandKey) => `${caller}\0${key}`

/**
 * Executes requests in one transaction on a connection of the write side; one outcome each, in
 * order. Throws when the transaction as a whole failed: then nothing of it was written, unless the
 * connection was lost while committing, which only the keys can tell.
 */
export async function executeBatch(
  client: ClientBase,
  requests: readonly CommandRequest[],
  newId: () => string,
): Promise<Outcome[]> {
  const keys = [...new Map(requests.map((request) => [keyText(request), request])).values()]
  // Those of repeats and of keys held elsewhere too: they are few, and to ask first would cost every
  // batch a round trip.
  const accountIds = [...new Set(requests.map((request) => request.command.accountId))]
  const { held, answers, accounts } = await beginBatch(client, keys, accountIds)
  const ours = new Set(keys.filter((_, index) => held[index]).map(keyText))
  const work: Work = {
    answers: new Map(answers.map((answer) => [keyText(answer), answer])),
    accounts,
    fromVersions: new Map(),
    write: { events: [], answers: [] },
    newId,
  }
  const outcomes = requests.map((request): Outcome => {
    if (!ours.has(keyText(request))) return { kind: 'key_held' }
    try {
      return { kind: 'answered', answer: answerTo(work, request) }
    } catch (error) {
      return { kind: 'faulted', error }
    }
  })
  if (work.write.answers.length === 0) await client.query('commit')
  else await writeAndCommit(client, { ...work.write, accounts: accountsOf(work) })
  return outcomes
}

const accountsOf = ({ fromVersions, accounts }: Work): BatchWrite['accounts'] =>
  [...fromVersions].map(([id, fromVersion]) => ({
    account: accounts.get(id) as Account,
    fromVersion,
  }))

function answerTo(work: Work, request: CommandRequest): Answer {
  const earlier = work.answers.get(keyText(request))
  if (earlier === undefined) return firstAnswer(work, request)
  if (earlier.fingerprint.equals(request.fingerprint)) return { ...earlier.answer, replayed: true }
  const account = work.accounts.get(request.command.accountId) ?? null
  return refusedAnswer(problem('idempotency_key_reused'), account, request.trace.traceId)
}

function firstAnswer(work: Work, request: CommandRequest): Answer {
  const { command } = request
  const account = work.accounts.get(command.accountId) ?? null
  const decision = preconditionFault(account, request) ?? decide(account, command)
  const answer: Answer =
    decision instanceof Problem
      ? refusedAnswer(decision, account, request.trace.traceId)
      : acceptedAnswer(command, apply(work, request, account, decision))
  const { caller, key, fingerprint } = request
  work.answers.set(keyText(request), { fingerprint, answer })
  work.write.answers.push({ caller, key, fingerprint, answer, answeredAt: command.at })
  return answer
}

function preconditionFault(account: Account | null, { ifMatch }: CommandRequest): Problem | null {
  if (ifMatch === undefined || account === null) return null
  if (ifMatch.has(`"${account.version}"`)) return null
  return problem('version_conflict', {
    detail: `the account is at version ${account.version}`,
    extra: { version: account.version },
  })
}

function apply(
  work: Work,
  request: CommandRequest,
  before: Account | null,
  events: readonly AccountEvent[],
): Account {
  const after = events.reduce<Account | null>(evolve, before) as Account
  if (!work.fromVersions.has(after.id)) work.fromVersions.set(after.id, before?.version ?? 0)
  work.accounts.set(after.id, after)
  for (const event of events) {
    const { traceparent, correlationId } = request.trace
    const causationId = request.commandId
    work.write.events.push({ id: work.newId(), event, traceparent, correlationId, causationId })
  }
  return after
}
