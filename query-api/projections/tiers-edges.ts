// How balances are cut into tiers. The edges of a currency rise, in minor units: a tier begins at
// its edge and ends just below the next one, and below the first edge and from the last one on
// there is a tier, too. So every balance, negative ones as well, falls in exactly one.

export type Edges = readonly bigint[]

/** From is included, to is not; null at the open ends. */
export type TierRange = { from: bigint | null; to: bigint | null }

/**
 * The number of a balance's tier: how many edges are at or below it, as Postgres' width_bucket
 * says.
 */
export function tierOf(edges: Edges, balance: bigint): number {
  let low = 0
  let high = edges.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (edges[middle]! <= balance) low = middle + 1
    else high = middle
  }
  return low
}

export function rangeOf(edges: Edges, tier: number): TierRange {
  return { from: edges[tier - 1] ?? null, to: edges[tier] ?? null }
}

/** Cut at 0, 100 and 1,000 of the currency's major unit. */
export function defaultEdges(exponent: number): Edges {
  const major = 10n ** BigInt(exponent)
  return [0n, 100n * major, 1_000n * major]
}

/** A tier as `GET /accounts?tier=` names it: `EUR:0..10000`, an open end being empty. */
export type TierName = TierRange & { currency: string }

export function parseTierName(text: string): TierName | undefined {
  const [, currency, from, to] = /^([A-Z]{3}):(-?\d{1,19})?\.\.(-?\d{1,19})?$/.exec(text) ?? []
  if (currency === undefined) return undefined
  const end = (digits: string | undefined) => (digits === undefined ? null : BigInt(digits))
  return { currency, from: end(from), to: end(to) }
}

/** The number of the tier with exactly this range, or undefined. */
export function tierWith(edges: Edges, { from, to }: TierRange): number | undefined {
  const tier = from === null ? 0 : edges.indexOf(from) + 1
  const found = rangeOf(edges, tier)
  return found.from === from && found.to === to ? tier : undefined
}

const edgeLimit = 100

/**
 * The edges by currency that a text such as `EUR:0,10000,100000;JPY:0,100` gives, in minor units,
 * and a sentence for each thing that is wrong with it.
 */
export function parseTiers(text: string): { edges: Map<string, Edges>; faults: string[] } {
  const edges = new Map<string, Edges>()
  const faults: string[] = []
  for (const part of text.split(';').map((each) => each.trim())) {
    if (part === '') continue
    const [, currency, list] = /^([A-Z]{3}):(.*)$/.exec(part) ?? []
    if (currency === undefined || list === undefined) {
      faults.push(`"${shown(part)}" is not a currency and its edges, such as EUR:0,10000,100000`)
      continue
    }
    if (edges.has(currency)) faults.push(`${currency} is there twice`)
    const parsed = parseEdges(list)
    faults.push(...parsed.faults.map((fault) => `${currency}: ${fault}`))
    edges.set(currency, parsed.edges)
  }
  return { edges, faults }
}

function parseEdges(list: string): { edges: Edges; faults: string[] } {
  const faults: string[] = []
  const edges: bigint[] = []
  for (const text of list.split(',').map((each) => each.trim())) {
    if (!/^(0|-?[1-9]\d{0,17})$/.test(text)) {
      faults.push(`"${shown(text)}" is no whole number of minor units, of 18 digits at most`)
      continue
    }
    const edge = BigInt(text)
    const last = edges.at(-1)
    if (last !== undefined && edge <= last) {
      faults.push(`${edge} comes after ${last}, and edges rise`)
    }
    edges.push(edge)
  }
  if (edges.length > edgeLimit) faults.push(`${edges.length} edges, and ${edgeLimit} is the most`)
  return { edges, faults }
}

/** A person's slip of the pen may be long, and an error is one line. */
const shown = (text: string) => text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 40)
