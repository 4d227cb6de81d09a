// What each read has to show of a write, by its body alone.

/** What a command has made true; its writer has written nothing since. */
export type Expected = {
  token: string
  currency: string
  reference: string
  /** The account that it was about, or the one of both that paid. */
  account: { id: string; version: number; ledgerBalance: bigint; held: bigint }
  transactionId?: string
  transferId?: string
  holdId?: string
  /** All accounts of the currency, where the token names all of them. */
  both?: readonly Expected['account'][]
}

type Item = {
  id?: string
  version?: number
  asOf?: string | null
  transactionId?: string | null
  currency?: string
  status?: string
  count?: number
  total?: string
  ledgerBalance?: string
  held?: string
}

export type ReadBody = Item & {
  items?: readonly Item[]
  money?: readonly Item[]
  tiers?: readonly Item[]
  balance?: string
  closing?: string
  next?: string | null
}

type Judge = {
  /** Undefined where the write says nothing of it. */
  path(wanted: Expected): string | undefined
  shows(body: ReadBody, wanted: Expected): boolean
}

const sum = (amounts: readonly (bigint | string | undefined)[]) =>
  amounts.reduce<bigint>((all, each) => all + BigInt(each ?? 0), 0n)

const isAccount = (item: Item | undefined, { version, ledgerBalance, held }: Expected['account']) =>
  item?.version === version &&
  item.ledgerBalance === String(ledgerBalance) &&
  item.held === String(held)

const hasMoved = (lines: readonly Item[] | undefined, { transactionId }: Expected) =>
  lines?.some((line) => line.transactionId === transactionId) === true

function hasMoney(items: readonly Item[] | undefined, { currency, both = [] }: Expected): boolean {
  const own = items?.filter((item) => item.currency === currency) ?? []
  return (
    sum(own.map((item) => item.ledgerBalance)) === sum(both.map((each) => each.ledgerBalance)) &&
    sum(own.map((item) => item.held)) === sum(both.map((each) => each.held))
  )
}

function isSorted(items: readonly Item[] | undefined, { currency, both = [] }: Expected): boolean {
  const own = items?.filter((item) => item.currency === currency) ?? []
  return (
    own.reduce((count, item) => count + (item.count ?? 0), 0) === both.length &&
    sum(own.map((item) => item.total)) === sum(both.map((each) => each.ledgerBalance))
  )
}

const ofAccount =
  (rest: string, has: (wanted: Expected) => boolean = () => true) =>
  (wanted: Expected) =>
    has(wanted) ? `/accounts/${wanted.account.id}${rest}` : undefined

const moved = ({ transactionId }: Expected) => transactionId !== undefined
const ofAll = (path: string) => (wanted: Expected) => (wanted.both === undefined ? undefined : path)

/** Every read that a token is good for, but flags of risk, which few writes raise. */
export const judges: Record<string, Judge> = {
  account: {
    path: ofAccount(''),
    shows: (body, { account }) => isAccount(body, account),
  },
  'list of accounts': {
    path: ({ currency }) => `/accounts?currency=${currency}`,
    shows: ({ items }, { account, both = [account] }) =>
      both.every((each) =>
        isAccount(
          items?.find(({ id }) => id === each.id),
          each,
        ),
      ),
  },
  transactions: {
    path: ofAccount('/transactions?limit=1', moved),
    shows: ({ items }, wanted) => hasMoved(items, wanted),
  },
  statement: {
    path: ofAccount('/statement', moved),
    shows: ({ version, closing, next }, { account }) =>
      version === account.version && (next !== null || closing === String(account.ledgerBalance)),
  },
  balance: {
    path: ofAccount('/balance'),
    shows: ({ balance }, { account }) => balance === String(account.ledgerBalance),
  },
  holds: {
    path: ofAccount('/holds?status=active&limit=100'),
    shows: ({ version, items }, { account, holdId }) =>
      version === account.version &&
      (holdId === undefined ||
        (items ?? []).length === 100 ||
        items!.some(({ id }) => id === holdId)),
  },
  transfer: {
    path: ({ transferId }) => transferId && `/transfers/${transferId}`,
    shows: ({ status, transactionId }, wanted) =>
      status === 'complete' && transactionId === wanted.transactionId,
  },
  totals: { path: ofAll('/totals'), shows: ({ items }, wanted) => hasMoney(items, wanted) },
  tiers: { path: ofAll('/tiers'), shows: ({ items }, wanted) => isSorted(items, wanted) },
  dashboard: {
    path: ofAll('/dashboard'),
    shows: ({ money, tiers }, wanted) => hasMoney(money, wanted) && isSorted(tiers, wanted),
  },
  search: {
    path: (wanted) => (moved(wanted) ? `/search?q=${wanted.reference}` : undefined),
    shows: ({ items }, wanted) => hasMoved(items, wanted),
  },
}
