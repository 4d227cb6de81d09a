import type { Finding } from './findings.ts'
import type { Quarantined } from './quarantine-log.ts'

/** What was done to the read side so that it must notice, while it was done and mended. */
export type Harm = {
  /** Accounts of which it may say so; nobody else's entry is forgiven for it, nor one at another time. */
  accounts: ReadonlySet<string>
  /** Of these it must. */
  mustNotice: ReadonlySet<string>
  /** What it may call it. */
  codes: readonly string[]
  fromMs: number
  /** Infinity until it is mended. */
  untilMs: number
}

const isOf = ({ accounts, codes, fromMs, untilMs }: Harm, { account, what, atMs }: Quarantined) =>
  accounts.has(account) && codes.includes(what) && atMs >= fromMs && atMs <= untilMs

/** Entries that no harm accounts for. */
export function unforgiven(
  quarantined: readonly Quarantined[],
  harms: readonly Harm[],
): Quarantined[] {
  return quarantined.filter((entry) => !harms.some((harm) => isOf(harm, entry)))
}

/** Accounts that were harmed, and nobody noticed. */
export function unnoticed(harm: Harm, quarantined: readonly Quarantined[]): string[] {
  const noticed = new Set(
    quarantined.filter((entry) => isOf(harm, entry)).map(({ account }) => account),
  )
  return [...harm.mustNotice].filter((account) => !noticed.has(account))
}

/** An event that is missed changes no row for long: the next one brings all balances. So this is asked. */
export function checkNoticed(
  harms: readonly Harm[],
  quarantined: readonly Quarantined[],
): Finding[] {
  return harms.flatMap((harm) =>
    unnoticed(harm, quarantined).map((account): Finding => {
      const what = `read side, ${account}: ${harm.codes.join(' or ')} was forced, and nobody noticed`
      return { promise: 'I4', what }
    }),
  )
}
