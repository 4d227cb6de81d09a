import { z } from 'zod'
import { amount, currencyCode } from './money.ts'

// What the fields of requests may hold. Objects made of them are strict: nobody sets a balance by
// naming it.

export const printable = (longest: number) =>
  z
    .string()
    .min(1)
    .max(longest)
    .regex(/^[^\p{Cc}\p{Cs}]*$/u, 'must not hold control characters')

export const accountId = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, underscores, dashes')
  .refine((id) => !id.startsWith('sluice-'), 'must not begin with sluice-')

export const accountPath = z.strictObject({ accountId })

/** Years that every store and client on the way can write, in UTC. */
const years = { first: 1900, last: 9998 }
const yearsMessage = `must be within the years ${years.first} to ${years.last}, in UTC`

function isWithinYears(moment: string): boolean {
  const year = new Date(moment).getUTCFullYear()
  return year >= years.first && year <= years.last
}

/** What every movement of money says of itself; where the amount's currency goes without saying. */
export const movementFields = {
  amount,
  currency: currencyCode.optional(),
  reference: printable(200).optional(),
  effectiveAt: z.iso.datetime({ offset: true }).refine(isWithinYears, yearsMessage).optional(),
}

/** A body may be left out where it could say nothing. */
export const noBody = z.strictObject({}).default({})
