// How text becomes words that are compared: the same for what is stored and for what is asked.

/** Of one document, and of one question; what is beyond is not searched. */
const documentWords = 256
export const questionWords = 8
const wordLength = 64

/** Small letters without accents, and digits, in the order of the text. */
export function wordsOf(text: string, most = documentWords): string[] {
  const plain = text.normalize('NFKD').replaceAll(/\p{M}/gu, '').toLowerCase()
  const words = plain.match(/[\p{L}\p{N}]+/gu) ?? []
  return words.slice(0, most).map((word) => word.slice(0, wordLength).toWellFormed())
}

/** A misspelt word can be told from a right one; of a number nobody knows. */
export function isComparable(word: string): boolean {
  return word.length >= 3 && !/\p{N}/u.test(word)
}

/** Words of a JSON document's values; its names are left out. */
export function wordsWithin(value: unknown): string[] {
  const found: string[] = []
  const rest: unknown[] = [value]
  while (rest.length > 0 && found.length < documentWords) {
    const each = rest.pop()
    if (typeof each === 'string' || typeof each === 'number') found.push(...wordsOf(String(each)))
    else if (typeof each === 'object' && each !== null) {
      rest.push(...Object.values(each).toReversed())
    }
  }
  return found.slice(0, documentWords)
}

/** A tsvector's own text. Words are letters and digits only, so nothing needs escaping. */
export function documentOf(parts: readonly { weight: 'A' | 'B' | 'C'; words: string[] }[]): string {
  const placed = parts.flatMap(({ weight, words }) => words.map((word) => ({ word, weight })))
  return placed.map(({ word, weight }, at) => `'${word}':${at + 1}${weight}`).join(' ')
}

/** Words that a slip of the fingers made it of: two neighbours swapped, or a letter too many. */
export function slips(word: string): string[] {
  if (!isComparable(word)) return []
  const made = new Set<string>()
  for (let at = 0; at < word.length; at += 1) {
    const [before, letter, next, rest] = [
      word.slice(0, at),
      word.charAt(at),
      word.charAt(at + 1),
      word.slice(at + 2),
    ]
    made.add(`${before}${next}${rest}`)
    made.add(`${before}${next}${letter}${rest}`)
  }
  made.delete(word)
  return [...made]
}

/** What a word may have been meant as, the likeliest first. */
type Like = { word: string; similarity: number }

const meantAtMost = 12

/**
 * Of words that resemble it or begin with it: those within one letter added, left out, changed or
 * swapped with its neighbour, within two in words of six letters or more, and those that it begins.
 */
export function meant(given: string, found: readonly Like[]): string[] {
  const allowed = given.length >= 6 ? 2 : 1
  const judged = found.flatMap(({ word, similarity }) => {
    if (word.startsWith(given)) return [{ word, similarity, distance: word === given ? 0 : 0.5 }]
    const distance = isComparable(given) ? lettersApart(given, word) : Infinity
    return distance <= allowed ? [{ word, similarity, distance }] : []
  })
  const likeliest = judged.toSorted(
    (one, other) => one.distance - other.distance || other.similarity - one.similarity,
  )
  return [...new Set(likeliest.map(({ word }) => word))].slice(0, meantAtMost)
}

/** Damerau and Levenshtein's distance, where no letter moves twice. */
export function lettersApart(one: string, other: string): number {
  let before: number[] = []
  let row = Array.from({ length: other.length + 1 }, (_, at) => at)
  for (let i = 1; i <= one.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= other.length; j += 1) {
      const same = one[i - 1] === other[j - 1]
      let least = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (same ? 0 : 1))
      const swapped = one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1]
      if (i > 1 && j > 1 && swapped) least = Math.min(least, before[j - 2]! + 1)
      next.push(least)
    }
    before = row
    row = next
  }
  return row[other.length]!
}

/** All words, or any of them; each may be any of its meanings. A tsquery's own text. */
export function queryOf(meanings: readonly (readonly string[])[], between: '&' | '|'): string {
  const words = meanings.filter((each) => each.length > 0)
  return words.map((each) => `(${each.map((word) => `'${word}'`).join('|')})`).join(between)
}
