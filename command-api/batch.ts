import { Problem } from 'service/problem'
import type { ClientBase } from 'pg'
import type { Account } from './account.ts'
import { acceptedAnswer, refusedAnswer, type Answer } from './answer.ts'
import { changesOf, type Books, type Hold, type Transaction } from './books.ts'
import { accountsOf, decide, namedBy, type Command } from './commands.ts'
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
  command: Command
  /** The ETags that If-Match wants, any of them; undefined when it was not sent. */
  ifMatch: ReadonlySet<string> | undefined
  trace: { traceparent: string; traceId: string; correlationId: string }
  /** Decided and answered, and nothing kept: neither what it would do nor its answer. */
  dryRun: boolean
}

/** Commands that all happen or none does; nearly always one. */
export type Unit = readonly CommandRequest[]

export type Outcome =
  /** One answer per command of the unit. */
  | { kind: 'answered'; answers: readonly Answer[] }
  /** Another transaction holds a key: come again. */
  | { kind: 'key_held' }
  /** A bug met by this unit alone. */
  | { kind: 'faulted'; error: unknown }

/** What the batch knows while it decides: answers by key, the books as they stand, what to write. */
type Work = {
  answers: Map<string, { fingerprint: Buffer; answer: Answer }>
  accounts: Map<string, Account>
  holds: Map<string, Hold>
  transactions: Map<string, Transaction>
  fromVersions: Map<string, number>
  changedHolds: Set<string>
  write: { events: RecordedEvent[]; answers: BatchWrite['answers'][number][] }
  newId: () => string
}

const keyText = ({ caller, key }: CommandKey) => `${caller}\0${key}`

/**
 * Executes units in one transaction on a connection of the write side; one outcome each, in order.
 * Throws when the transaction as a whole failed: then nothing of it was written, unless the
 * connection was lost while committing, which only the keys can tell.
 */
export async function executeBatch(
  client: ClientBase,
  units: readonly Unit[],
  newId: () => string,
): Promise<Outcome[]> {
  const requests = units.flat()
  const kept = requests.filter((request) => !request.dryRun)
  const keys = [...new Map(kept.map((request) => [keyText(request), request])).values()]
  // What repeats and keys held elsewhere name is read too: they are few, and to ask first would
  // cost every batch a round trip.
  const named = namedBy(requests.map((request) => request.command))
  const { held, answers, ...books } = await beginBatch(client, keys, named)
  const ours = new Set(keys.filter((_, index) => held[index]).map(keyText))
  const work: Work = {
    ...books,
    answers: new Map(answers.map((answer) => [keyText(answer), answer])),
    fromVersions: new Map(),
    changedHolds: new Set(),
    write: { events: [], answers: [] },
    newId,
  }
  const outcomes = units.map((unit): Outcome => {
    if (unit.some((each) => !each.dryRun && !ours.has(keyText(each)))) return { kind: 'key_held' }
    try {
      return { kind: 'answered', answers: answersTo(work, unit) }
    } catch (error) {
      return { kind: 'faulted', error }
    }
  })
  if (work.write.answers.length === 0) await client.query('commit')
  else await writeAndCommit(client, writeOf(work))
  return outcomes
}

function writeOf({ write, fromVersions, accounts, changedHolds, holds }: Work): BatchWrite {
  return {
    ...write,
    accounts: [...fromVersions].map(([id, fromVersion]) => ({
      account: accounts.get(id) as Account,
      fromVersion,
    })),
    holds: [...changedHolds].map((id) => holds.get(id) as Hold),
  }
}

function answersTo(work: Work, unit: Unit): readonly Answer[] {
  const [only, ...more] = unit
  if (only === undefined) return []
  if (more.length > 0) return answersTogether(work, unit)
  return [only.dryRun ? dryAnswer(decided(work, only).answer) : answerTo(work, only)]
}

function answerTo(work: Work, request: CommandRequest): Answer {
  const earlier = work.answers.get(keyText(request))
  if (earlier === undefined) return firstAnswer(work, request)
  if (earlier.fingerprint.equals(request.fingerprint)) return { ...earlier.answer, replayed: true }
  return refusal(work, request, problem('idempotency_key_reused'))
}

/** It names no version that a read could wait for: there will be none. */
const dryAnswer = (answer: Answer): Answer => ({ ...answer, etag: null, token: null })

/**
 * All or nothing: decided one after another on a copy, which becomes the truth if none is refused.
 * Otherwise the first that was keeps its refusal, and the others are told that they did not happen.
 */
function answersTogether(work: Work, unit: Unit): readonly Answer[] {
  const dryRun = unit.some((request) => request.dryRun)
  if (!dryRun && unit.some((request) => work.answers.has(keyText(request)))) {
    return unit.map((request) => answerAgain(work, request))
  }
  const tentative = copyOf(work)
  const answers: Answer[] = []
  for (const request of unit) {
    const answer = firstAnswer(tentative, request)
    answers.push(answer)
    if (answer.status >= 400) break
  }
  const refused = answers.findIndex((answer) => answer.status >= 400)
  if (refused === -1) {
    if (!dryRun) Object.assign(work, tentative)
    return dryRun ? answers.map(dryAnswer) : answers
  }
  return unit.map((request, index) => {
    const culprit = index === refused ? answers[index] : undefined
    const answer = culprit ?? refusal(work, request, problem('batch_not_applied'))
    if (!dryRun) keep(work, request, answer)
    return dryRun ? dryAnswer(answer) : answer
  })
}

/** The fingerprints are those of the whole batch: either all of it was answered, or none. */
function answerAgain(work: Work, request: CommandRequest): Answer {
  if (work.answers.has(keyText(request))) return answerTo(work, request)
  return refusal(work, request, problem('batch_not_applied'))
}

function copyOf(work: Work): Work {
  return {
    ...work,
    answers: new Map(work.answers),
    accounts: new Map(work.accounts),
    holds: new Map(work.holds),
    transactions: new Map(work.transactions),
    fromVersions: new Map(work.fromVersions),
    changedHolds: new Set(work.changedHolds),
    write: { events: [...work.write.events], answers: [...work.write.answers] },
  }
}

function firstAnswer(work: Work, request: CommandRequest): Answer {
  const { answer, events, changes } = decided(work, request)
  if (changes !== null) record(work, request, events, changes)
  keep(work, request, answer)
  return answer
}

function keep(work: Work, request: CommandRequest, answer: Answer): void {
  const { caller, key, fingerprint, command } = request
  work.answers.set(keyText(request), { fingerprint, answer })
  work.write.answers.push({ caller, key, fingerprint, answer, answeredAt: command.at })
}

type Decided = { answer: Answer; events: readonly AccountEvent[]; changes: Books | null }

function decided(work: Work, request: CommandRequest): Decided {
  const { command } = request
  const decision = preconditionFault(work, request) ?? decide(work, command)
  if (decision instanceof Problem) {
    return { answer: refusal(work, request, decision), events: [], changes: null }
  }
  const changes = changesOf(work, decision)
  return { answer: acceptedAnswer(command, changes), events: decision, changes }
}

/** The one account that a command is about; null where it is about more, or there is none. */
function accountOf(work: Work, { command }: CommandRequest): Account | null {
  const [id, ...others] = accountsOf(command)
  return id === undefined || others.length > 0 ? null : (work.accounts.get(id) ?? null)
}

const refusal = (work: Work, request: CommandRequest, why: Problem) =>
  refusedAnswer(why, accountOf(work, request), request.trace.traceId)

function preconditionFault(work: Work, request: CommandRequest): Problem | null {
  const account = request.ifMatch === undefined ? null : accountOf(work, request)
  if (account === null || request.ifMatch?.has(`"${account.version}"`)) return null
  return problem('version_conflict', {
    detail: `the account is at version ${account.version}`,
    extra: { version: account.version },
  })
}

function record(
  work: Work,
  request: CommandRequest,
  events: readonly AccountEvent[],
  changes: Books,
): void {
  for (const [id, account] of changes.accounts) {
    if (!work.fromVersions.has(id)) {
      work.fromVersions.set(id, work.accounts.get(id)?.version ?? 0)
    }
    work.accounts.set(id, account)
  }
  for (const [id, hold] of changes.holds) {
    work.holds.set(id, hold)
    work.changedHolds.add(id)
  }
  for (const [id, transaction] of changes.transactions) work.transactions.set(id, transaction)
  const { traceparent, correlationId } = request.trace
  const causationId = request.commandId
  for (const event of events) {
    work.write.events.push({ id: work.newId(), event, traceparent, correlationId, causationId })
  }
}
