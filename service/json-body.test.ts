import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseJsonBody, repeatedName } from './json-body.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const malformed = (detail?: string) =>
  expect.objectContaining({ code: 'malformed_json', details: detail ? { detail } : {} })

describe('a body', () => {
  test('is what JSON.parse says, without a byte order mark', () => {
    expect(parseJsonBody(bytes('\uFEFF{"owner":"Zoë 🙂 \uFFFD"}'))).toEqual({
      owner: 'Zoë 🙂 \uFFFD',
    })
  })

  test.each([
    ['a byte that begins nothing', [0xff]],
    ['a sequence that ends too early', [0xc3]],
    ['a letter of Latin-1', [0xe9]],
    ['more bytes than a letter needs', [0xc0, 0xaf]],
    ['half of a UTF-16 pair', [0xed, 0xa0, 0x80]],
    ['a letter beyond the last', [0xf4, 0x90, 0x80, 0x80]],
  ])('with %s is refused, and the next one read', (_name, inside) => {
    const body = Uint8Array.from([0x22, ...inside, 0x22])
    expect(() => parseJsonBody(body)).toThrow(malformed())
    expect(parseJsonBody(bytes('"é"'))).toBe('é')
  })

  test.each(['', '{', "{'a':1}", '{"a":1}}', '"a\nb"'])('%j is refused', (text) => {
    expect(() => parseJsonBody(bytes(text))).toThrow(malformed())
  })

  test('that names a member twice is refused, and the name said in short', () => {
    expect(() => parseJsonBody(bytes('{"amount":"1","amount":"100"}'))).toThrow(
      malformed('one object names "amount" twice'),
    )
    const long = 'x'.repeat(1_000)
    expect(() => parseJsonBody(bytes(`{"${long}":1,"${long}":2}`))).toThrow(
      malformed(`one object names "${'x'.repeat(64)}" twice`),
    )
  })
})

describe('a repeated name', () => {
  test.each([
    ['{"a":1,"a":2}', 'a'],
    ['{"a":1,"b":{"c":1,"a":2},"a":3}', 'a'],
    ['[{"a":1},{"b":1,"b":1}]', 'b'],
    ['{ "a" \t\r\n : 1 , "a":1}', 'a'],
    [String.raw`{"a":1,"\u0061":2}`, 'a'],
    [String.raw`{"\"":1,"\u0022":2}`, '"'],
    [String.raw`{"\\":1,"\\":2}`, '\\'],
    ['{"":1,"":2}', ''],
    ['{"__proto__":1,"__proto__":2}', '__proto__'],
  ])('is found in %s', (json, name) => {
    expect(repeatedName(json)).toBe(name)
  })

  test.each([
    '{"a":{"a":{"a":1}}}',
    '[{"a":1},{"a":1}]',
    '{"a":["a","a"],"b":"a"}',
    String.raw`{"a":"\",\"a\":1","b":"{\"a\":1,\"a\":1}"}`,
    String.raw`{"a":"\\","b":"}{"}`,
    '{"a":1,"A":1,"a ":1}',
    '"a"',
    'null',
  ])('is not seen in %s', (json) => {
    JSON.parse(json)
    expect(repeatedName(json)).toBeUndefined()
  })

  test('is found just when some object has one, whatever is around it', () => {
    // Objects as lists of members, which can hold a name twice; short names meet often.
    type Node = string | number | Node[] | { members: [string, Node][] }
    const name = fc.oneof(fc.constantFrom('a', 'b', '"', '\\', ':', '{', '}'), fc.string())
    const { node } = fc.letrec<{ node: Node }>((tie) => ({
      node: fc.oneof(
        { maxDepth: 4 },
        fc.string({ unit: 'binary' }),
        fc.integer(),
        fc.array(tie('node'), { maxLength: 3 }),
        fc.record({ members: fc.array(fc.tuple(name, tie('node')), { maxLength: 4 }) }),
      ),
    }))
    const print = (from: Node): string => {
      if (Array.isArray(from)) return `[ ${from.map(print).join(' ,')}]`
      if (typeof from !== 'object') return JSON.stringify(from)
      const members = from.members.map(([key, value]) => `${JSON.stringify(key)} : ${print(value)}`)
      return `{${members.join(',\n')} }`
    }
    const isRepeated = (from: Node): boolean => {
      if (Array.isArray(from)) return from.some(isRepeated)
      if (typeof from !== 'object') return false
      const names = from.members.map(([key]) => key)
      return (
        new Set(names).size < names.length || from.members.some(([, value]) => isRepeated(value))
      )
    }
    let repeated = 0
    const check = fc.property(node, (from) => {
      repeated += isRepeated(from) ? 1 : 0
      expect(repeatedName(print(from)) !== undefined).toBe(isRepeated(from))
    })
    fc.assert(check, { numRuns: 2_000 })
    expect(repeated).toBeGreaterThan(20)
  })

  test('costs no stack, however deep a body is', () => {
    const deep = `${'{"a":['.repeat(10_000)}${']}'.repeat(10_000)}`
    expect(repeatedName(deep)).toBeUndefined()
  })
})
