import { createHmac, timingSafeEqual } from 'node:crypto'

// A cursor is a position in one list under its filters, and our signature over all three. Callers
// cannot read another place out of it by hand, nor carry it over to another question.

export type CursorPlace = {
  list: string
  /** Of the whole question, in any order; undefined ones do not count. */
  filters: Readonly<Record<string, string | undefined>>
}

/** The list goes on behind `after`. */
export function encodeCursor(secret: string, place: CursorPlace, after: string): string {
  const position = Buffer.from(after).toString('base64url')
  return `${position}.${sign(secret, place, position).toString('base64url')}`
}

/** What was encoded, or undefined for a text that is not a cursor of this list and these filters. */
export function decodeCursor(
  secret: string,
  place: CursorPlace,
  cursor: string,
): string | undefined {
  const [, position, signature] = /^([\w-]{1,512})\.([\w-]{43})$/.exec(cursor) ?? []
  if (position === undefined || signature === undefined) return undefined
  const given = Buffer.from(signature, 'base64url')
  const right = sign(secret, place, position)
  // The text itself is compared too: several texts decode to the same bytes.
  if (!timingSafeEqual(given, right) || right.toString('base64url') !== signature) return undefined
  return Buffer.from(position, 'base64url').toString()
}

function sign(secret: string, { list, filters }: CursorPlace, position: string): Buffer {
  const given = Object.entries(filters).filter(([, value]) => value !== undefined)
  const ordered = given.toSorted(([one], [other]) => (one < other ? -1 : 1))
  return createHmac('sha256', secret)
    .update(JSON.stringify([list, ordered, position]))
    .digest()
}
