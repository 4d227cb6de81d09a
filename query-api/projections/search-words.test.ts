import { expect, test } from 'vitest'
import {
  documentOf,
  isComparable,
  lettersApart,
  meant,
  queryOf,
  slips,
  wordsOf,
  wordsWithin,
} from './search-words.ts'

test('words are small letters without accents, and digits', () => {
  expect(wordsOf('Zoë "quoted" \\ MÜLLER-Lüdenscheidt, {1}')).toEqual([
    'zoe',
    'quoted',
    'muller',
    'ludenscheidt',
    '1',
  ])
  expect(wordsOf(" '':* & | ! <-> ")).toEqual([])
  expect(wordsOf('Ада Лавлейс')).toEqual(['ада', 'лавлеис'])
})

test('a document has a bounded number of words of a bounded length', () => {
  expect(wordsOf('a '.repeat(1_000))).toHaveLength(256)
  expect(wordsOf('x'.repeat(1_000))[0]).toHaveLength(64)
  expect(wordsWithin({ deep: ['a '.repeat(300), 'b '.repeat(300)] })).toHaveLength(256)
})

test('metadata is searched by its values, however deep, in their order', () => {
  const metadata = { branch: 'Leipzig Nord', tags: ['VIP', { since: 2019 }], ok: true, none: null }
  expect(wordsWithin(metadata)).toEqual(['leipzig', 'nord', 'vip', '2019'])
})

test('a document says where each word stands and how much it weighs', () => {
  const parts = [
    { weight: 'A', words: ['ada', 'lovelace'] },
    { weight: 'B', words: ['vip'] },
  ] as const
  expect(documentOf(parts.map((part) => ({ ...part, words: [...part.words] })))).toBe(
    "'ada':1A 'lovelace':2A 'vip':3B",
  )
})

test('the distance counts letters added, left out, changed and swapped', () => {
  expect(lettersApart('lovelace', 'lovelace')).toBe(0)
  expect(lettersApart('jonh', 'john')).toBe(1)
  expect(lettersApart('lovelase', 'lovelace')).toBe(1)
  expect(lettersApart('lvelacee', 'lovelace')).toBe(2)
  expect(lettersApart('', 'abc')).toBe(3)
  expect(lettersApart('ca', 'abc')).toBe(3)
})

test('a word may have been meant as those it begins and those a typing error away', () => {
  const found = [
    { word: 'lovell', similarity: 0.5 },
    { word: 'lovelace', similarity: 0.6 },
    { word: 'lovelacex', similarity: 0.5 },
    { word: 'lowlands', similarity: 0.3 },
  ]
  expect(meant('lovelase', found)).toEqual(['lovelace', 'lovelacex'])
  expect(meant('love', found)).toEqual(['lovelace', 'lovell', 'lovelacex'])
  expect(meant('jon', [{ word: 'john', similarity: 0.3 }])).toEqual(['john'])
  expect(meant('ab', [{ word: 'ac', similarity: 0.5 }])).toEqual([])
})

test('a slip swaps two neighbours or adds a letter', () => {
  expect(slips('abc').toSorted()).toEqual(['ab', 'ac', 'acb', 'bac', 'bc'])
  expect(slips('jhon')).toContain('john')
  expect(slips('a1')).toEqual([])
})

test('numbers are not guessed', () => {
  expect(isComparable('20391')).toBe(false)
  expect(isComparable('inv20391')).toBe(false)
  expect(isComparable('invoice')).toBe(true)
})

test('a question asks for all its words, or for any', () => {
  const meanings = [['ada', 'adam'], [], ['lovelace']]
  expect(queryOf(meanings, '&')).toBe("('ada'|'adam')&('lovelace')")
  expect(queryOf(meanings, '|')).toBe("('ada'|'adam')|('lovelace')")
})
