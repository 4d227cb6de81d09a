import { type ApiAnswer, type ApiRequest, parsePart, type Route } from 'service/route'
import { z } from 'zod'
import { pageParams, quarantineHeader, type ReadSettings, readRoute } from '../reading.ts'
import type { Queryable } from '../transaction.ts'
import { meant, questionWords, queryOf, slips, wordsOf } from './search-words.ts'
import { search } from './search.ts'

// A question's words are compared with all words there are, and documents are then looked for by what
// they may have been meant as: by all words, and where nothing has all of them, by any.

const searchQuery = z.strictObject({
  q: z
    .string()
    .min(1)
    .max(200)
    .refine((text) => wordsOf(text).length > 0, 'must have a letter or a digit'),
  limit: pageParams.limit,
})

export function searchRoutes(settings: ReadSettings): Route[] {
  const freshness = settings.freshnessOf(search)
  return [readRoute(freshness, '/search', (request) => answerSearch(settings, request))]
}

function answerSearch({ reader }: ReadSettings, request: ApiRequest) {
  const { q, limit } = parsePart(searchQuery, request.query, 'query')
  const words = [...new Set(wordsOf(q, questionWords))]
  return async (): Promise<ApiAnswer> => {
    const found = await findDocuments(reader, words, limit)
    const quarantined = found.map((row) => ({ ...row, id: row.account_id }))
    // The best there are, and no page behind them: a closer question brings closer answers.
    const body = { items: found.map(itemOf), next: null }
    return { status: 200, headers: quarantineHeader(quarantined), body }
  }
}

type FoundRow = {
  kind: 'account' | 'movement'
  account_id: string
  /** Of the event that it says so by. */
  version: string
  recorded_at: Date
  transaction_id: string | null
  content: string
  score: number
  quarantined: string | null
}

function itemOf(row: FoundRow) {
  const { kind, account_id: accountId, content } = row
  return {
    kind,
    accountId,
    ...(kind === 'account'
      ? { owner: content }
      : { transactionId: row.transaction_id, reference: content }),
    score: Math.round(row.score * 1_000) / 1_000,
    version: Number(row.version),
    asOf: row.recorded_at.toISOString(),
  }
}

async function findDocuments(
  reader: Queryable,
  words: readonly string[],
  limit: number,
): Promise<FoundRow[]> {
  const meanings = await meaningsOf(reader, words)
  const exact = words.map((word) => [word])
  // A word that nothing resembles is in no document: then not all can be there.
  if (meanings.every((each) => each.length > 0)) {
    const all = await ask(reader, [queryOf(exact, '&'), queryOf(meanings, '&'), limit])
    if (all.length > 0 || words.length === 1) return all
  }
  if (meanings.every((each) => each.length === 0)) return []
  return ask(reader, [queryOf(exact, '|'), queryOf(meanings, '|'), limit])
}

async function meaningsOf(reader: Queryable, words: readonly string[]): Promise<string[][]> {
  // Of a short word, such a slip changes more than half of what it is compared by.
  const slipped = words.flatMap((given) => slips(given).map((word) => [given, word]))
  const { rows } = await reader.query<{ given: string; word: string; similarity: number }>({
    name: 'search-meanings',
    text: `select given, word, similarity from read.search_words_like($1)
      union all
      select slip.given, w.word, 0 from unnest($2::text[], $3::text[]) as slip(given, word)
      join read.search_words w on w.word = slip.word`,
    values: [words, slipped.map(([given]) => given), slipped.map(([, word]) => word)],
  })
  const found = Map.groupBy(rows, ({ given }) => given)
  // A word with a digit is not among them, and stands for itself.
  return words.map((word) =>
    /\p{N}/u.test(word) || word.length < 3 ? [word] : meant(word, found.get(word) ?? []),
  )
}

async function ask(reader: Queryable, values: unknown[]): Promise<FoundRow[]> {
  const { rows } = await reader.query<FoundRow>({
    name: 'search-documents',
    text: `select d.*, q.code as quarantined
      from read.search_documents($1::tsquery, $2::tsquery, $3) d
      left join read.quarantine q on q.projection = '${search.name}' and q.account_id = d.account_id
      order by d.score desc, d.account_id, d.version desc`,
    values,
  })
  return rows
}
