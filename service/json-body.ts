import { httpProblem } from './problem.ts'

// What a body says must be one thing for whoever reads it. JSON.parse alone keeps the last of two
// members of one name, where others keep the first, and a lenient decoder puts U+FFFD in the place of
// bytes that are no text: either would record what the caller never said.

const utf8 = new TextDecoder('utf-8', { fatal: true })
const shownLength = 64

const openBrace = 0x7b
const closeBrace = 0x7d
const quote = 0x22
const backslash = 0x5c
const colon = 0x3a
const space = 0x20

/** The value of a JSON body in UTF-8. Throws 400 `malformed_json`, of a name given twice as well. */
export function parseJsonBody(bytes: Uint8Array): unknown {
  const { text, value } = decode(bytes)
  const name = repeatedName(text)
  if (name === undefined) return value
  const shown = JSON.stringify(name.slice(0, shownLength))
  throw httpProblem('malformed_json', { detail: `one object names ${shown} twice` })
}

function decode(bytes: Uint8Array): { text: string; value: unknown } {
  try {
    const text = utf8.decode(bytes)
    return { text, value: JSON.parse(text) }
  } catch {
    throw httpProblem('malformed_json')
  }
}

/**
 * The first name that an object of `json` has twice, however it is spelt (`\\u0061` is `a`). `json`
 * must be what JSON.parse takes: then a string is a name just when a colon follows it, every string
 * ends, and braces outside of strings nest. Without recursion, because callers choose the depth.
 */
export function repeatedName(json: string): string | undefined {
  const open: Set<string>[] = []
  for (let at = 0; at < json.length; at += 1) {
    const code = json.charCodeAt(at)
    if (code === openBrace) open.push(new Set())
    else if (code === closeBrace) open.pop()
    if (code !== quote) continue
    const end = endOfString(json, at)
    if (isName(json, end)) {
      const name = textOf(json.slice(at, end))
      const names = open.at(-1)
      if (names?.has(name)) return name
      names?.add(name)
    }
    at = end - 1
  }
  return undefined
}

/** The index after the closing quote of the string that begins at `at`. */
function endOfString(json: string, at: number): number {
  for (let index = at + 1; index < json.length; index += 1) {
    const code = json.charCodeAt(index)
    if (code === quote) return index + 1
    if (code === backslash) index += 1
  }
  return json.length
}

function isName(json: string, end: number): boolean {
  let next = end
  while (json.charCodeAt(next) <= space) next += 1
  return json.charCodeAt(next) === colon
}

const textOf = (quoted: string) =>
  quoted.includes('\\') ? (JSON.parse(quoted) as string) : quoted.slice(1, -1)
