import type { AccountEvent } from 'command-api/events'
import { nothingCarried, withOwnHeads } from '../own-heads.ts'
import type { ProjectedEvent, Projection } from '../projection.ts'
import type { Transaction } from '../transaction.ts'
import { documentOf, isComparable, wordsOf, wordsWithin } from './search-words.ts'

// The projection `search`: a document for each account (owner and metadata as they are now) and for
// each movement that has a reference, and every word of them all, for those who misspell one.

export const search: Projection = withOwnHeads({
  name: 'search',
  carried: nothingCarried,
  async fold(transaction, changes) {
    const accounts = changes.flatMap(({ events }) => events.flatMap(accountIn).slice(-1))
    const references = changes.flatMap(({ events }) => events.flatMap(referenceIn))
    putAccounts(transaction, accounts)
    insertReferences(transaction, references)
    await addWords(
      transaction,
      [...accounts, ...references].flatMap(({ words }) => words),
    )
  },
  async forget(transaction, account) {
    await transaction.query('delete from read.search_accounts where account_id = $1', [account])
    await transaction.query('delete from read.search_references where account_id = $1', [account])
  },
})

type Document = {
  account: string
  version: number
  at: string
  content: string
  document: string
  words: string[]
}

function accountIn({ account, version, event }: ProjectedEvent): Document[] {
  const { type, at, payload } = event
  if (type !== 'AccountOpened.v1' && type !== 'AccountDetailsUpdated.v1') return []
  const { owner: content, metadata } = payload
  const own = wordsOf(content)
  const further = wordsWithin(metadata)
  const document = documentOf([
    { weight: 'A', words: own },
    { weight: 'B', words: further },
  ])
  return [{ account, version, at, content, document, words: [...own, ...further] }]
}

type Reference = Document & { transactionId: string }

function referenceIn({ account, version, event }: ProjectedEvent): Reference[] {
  const moved = movementOf(event)
  if (moved === undefined || moved.reference === null) return []
  const { transactionId, reference: content } = moved
  const words = wordsOf(content)
  const document = documentOf([{ weight: 'C', words }])
  return [{ account, version, at: event.at, transactionId, content, document, words }]
}

function movementOf({ payload }: AccountEvent) {
  return 'transactionId' in payload ? payload : undefined
}

function putAccounts(transaction: Transaction, documents: readonly Document[]): void {
  if (documents.length === 0) return
  transaction.send({
    name: 'search-accounts',
    text: `insert into read.search_accounts (account_id, owner, document, version, recorded_at)
      select * from unnest($1::text[], $2::text[], $3::tsvector[], $4::bigint[], $5::timestamptz[])
      on conflict (account_id) do update set owner = excluded.owner,
        document = excluded.document, version = excluded.version,
        recorded_at = excluded.recorded_at`,
    values: columnsOf(documents),
  })
}

function insertReferences(transaction: Transaction, references: readonly Reference[]): void {
  if (references.length === 0) return
  transaction.send({
    name: 'search-references',
    text: `insert into read.search_references (account_id, reference, document, version,
        recorded_at, transaction_id)
      select * from unnest($1::text[], $2::text[], $3::tsvector[], $4::bigint[],
        $5::timestamptz[], $6::uuid[])`,
    values: [...columnsOf(references), references.map(({ transactionId }) => transactionId)],
  })
}

function columnsOf(documents: readonly Document[]): unknown[][] {
  return [
    documents.map(({ account }) => account),
    documents.map(({ content }) => content),
    documents.map(({ document }) => document),
    documents.map(({ version }) => version),
    documents.map(({ at }) => at),
  ]
}

/**
 * The words that are new. They belong to no account: sorted, so that two transactions that bring the
 * same ones wait for each other and never in a circle; looked for first, since hardly any is new.
 */
async function addWords(transaction: Transaction, words: readonly string[]): Promise<void> {
  const given = [...new Set(words.filter(isComparable))].toSorted()
  if (given.length === 0) return
  const { rows } = await transaction.query<{ word: string }>({
    name: 'search-new-words',
    text: `select word from unnest($1::text[]) as word
      where not exists (select from read.search_words w where w.word = word.word)`,
    values: [given],
  })
  if (rows.length === 0) return
  transaction.send({
    name: 'search-words',
    text: `insert into read.search_words select unnest($1::text[]) on conflict do nothing`,
    values: [rows.map(({ word }) => word).toSorted()],
  })
}
