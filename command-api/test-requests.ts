import type { Sent, TestApi } from './test-api.ts'

// A request of each command that is accepted, each on accounts of its own.

export type Request = [path: string, sent: Sent]

export const asOperator = { authorization: 'Bearer the-operator' }
const anyVersion = { 'if-match': '*' }
const eur = (amount: string): Sent => ({ body: { amount, currency: 'EUR' } })

export function acceptedRequests(api: TestApi): Record<string, () => Promise<Request>> {
  /** The path of an account with this on it, after these steps. */
  async function account(balance: string | undefined, ...steps: Request[]): Promise<string> {
    const path = `/accounts/${(await api.opened(balance)).id}`
    for (const [step, sent] of steps) await api.send(path + step, sent)
    return path
  }
  async function hold(end: string, sent: Sent): Promise<Request> {
    const path = `${await account('10')}/holds`
    const { json } = await api.send(path, { body: { amount: '6' } })
    return [`${path}/${json.hold.id}/${end}`, sent]
  }
  const freeze: Request = ['/freeze', { body: { scope: 'all', reason: 'a court' } }]
  const close: Request = ['/close', { headers: anyVersion, body: {} }]
  return {
    OpenAccount: async () => [
      '/accounts',
      { body: { owner: 'Ada', currency: 'EUR', type: 'savings', openingDeposit: '5' } },
    ],
    Deposit: async () => [`${await account(undefined)}/deposits`, eur('5')],
    Withdraw: async () => [`${await account('10')}/withdrawals`, eur('5')],
    Transfer: async () => {
      const [from, to] = [await api.opened('10'), await api.opened()]
      return ['/transfers', { body: { from: from.id, to: to.id, amount: '5' } }]
    },
    PlaceHold: async () => [
      `${await account('10')}/holds`,
      { body: { amount: '5', expiresInSeconds: 60 } },
    ],
    CaptureHold: () => hold('capture', { body: { amount: '2' } }),
    ReleaseHold: () => hold('release', { body: {} }),
    FreezeAccount: async () => [`${await account('10')}/freeze`, freeze[1]],
    UnfreezeAccount: async () => [`${await account('10', freeze)}/unfreeze`, { body: {} }],
    ChangeOverdraftLimit: async () => [
      `${await account('10')}/overdraft-limit`,
      { method: 'PUT', headers: anyVersion, body: { overdraftLimit: '50' } },
    ],
    ReverseTransaction: async () => {
      const { json } = await api.send(`${await account('10')}/deposits`, eur('5'))
      return [`/transactions/${json.transactionId}/reversal`, { body: {} }]
    },
    UpdateAccountDetails: async () => [
      await account('10'),
      { method: 'PATCH', headers: anyVersion, body: { owner: 'Eve' } },
    ],
    CloseAccount: async () => [`${await account(undefined)}/close`, close[1]],
    ReopenAccount: async () => [`${await account(undefined, close)}/reopen`, { body: {} }],
    ForceDebit: async () => [
      `${await account('10')}/force-debits`,
      { headers: asOperator, body: { amount: '60', reason: 'a fee' } },
    ],
  }
}
