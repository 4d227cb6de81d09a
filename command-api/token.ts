import { z } from 'zod'

/** Account ids and the version each must have reached: what a read may not be older than. */
export type ConsistencyToken = ReadonlyMap<string, number>

/** Read back at most this many accounts: a header must stay a header. */
const accountsLimit = 50

const accountId = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/)
const contents = z.record(accountId, z.int().positive())

/** `v1.` and base64url of `{"account": version}`. Not secret and not signed: it only makes its own
 * bearer wait. */
export function encodeToken(token: ConsistencyToken): string {
  return `v1.${Buffer.from(JSON.stringify(Object.fromEntries(token))).toString('base64url')}`
}

/** The token's accounts and versions, or undefined for text that is not a token of ours. */
export function decodeToken(text: string): ConsistencyToken | undefined {
  const match = /^v1\.([A-Za-z0-9_-]{1,8192})$/.exec(text)
  if (match?.[1] === undefined) return undefined
  try {
    const parsed = contents.safeParse(JSON.parse(Buffer.from(match[1], 'base64url').toString()))
    if (!parsed.success) return undefined
    const entries = Object.entries(parsed.data)
    const fits = entries.length >= 1 && entries.length <= accountsLimit
    return fits ? new Map(entries) : undefined
  } catch {
    return undefined
  }
}
