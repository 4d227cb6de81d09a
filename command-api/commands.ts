import assert from 'node:assert/strict'
import type { Problem } from 'service/problem'
import type { Books } from './books.ts'
import { detailsForm, updateDetails, type UpdateAccountDetails } from './details.ts'
import type { AccountEvent } from './events.ts'
import type { CommandForm } from './form.ts'
import {
  freeze,
  freezeForm,
  unfreeze,
  unfreezeForm,
  type FreezeAccount,
  type UnfreezeAccount,
} from './freezes.ts'
import * as holds from './holds.ts'
import * as movements from './movements.ts'
import * as opening from './opening.ts'
import { changeOverdraftLimit, overdraftForm, type ChangeOverdraftLimit } from './overdrafts.ts'
import { reversalForm, reverse, type ReverseTransaction } from './reversals.ts'
import { transfer, transferForm, type Transfer } from './transfers.ts'

// Every command, as the pure decider sees it and as callers do.

export type Command =
  | opening.OpenAccount
  | opening.CloseAccount
  | opening.ReopenAccount
  | movements.Deposit
  | movements.Withdraw
  | movements.ForceDebit
  | Transfer
  | holds.PlaceHold
  | holds.CaptureHold
  | holds.ReleaseHold
  | holds.ExpireHold
  | FreezeAccount
  | UnfreezeAccount
  | ChangeOverdraftLimit
  | ReverseTransaction
  | UpdateAccountDetails

export type CommandSettings = {
  /** How far below zero a forced debit may take what is available, in minor units. */
  forceDebitLimit: bigint
}

/** What callers can send. */
export function commandForms({ forceDebitLimit }: CommandSettings): CommandForm<Command>[] {
  return [
    opening.openForm,
    movements.depositForm,
    movements.withdrawForm,
    transferForm,
    holds.placeHoldForm,
    holds.captureHoldForm,
    holds.releaseHoldForm,
    freezeForm,
    unfreezeForm,
    overdraftForm,
    reversalForm,
    detailsForm,
    opening.closeForm,
    opening.reopenForm,
    movements.forceDebitForm(forceDebitLimit),
  ]
}

/** The events of an accepted command (never none), or the Problem that refuses it. */
export function decide(books: Books, command: Command): readonly AccountEvent[] | Problem {
  switch (command.kind) {
    case 'OpenAccount':
      return opening.open(books, command)
    case 'CloseAccount':
      return opening.close(books, command)
    case 'ReopenAccount':
      return opening.reopen(books, command)
    case 'Deposit':
    case 'Withdraw':
    case 'ForceDebit':
      return movements.decideMovement(books, command)
    case 'Transfer':
      return transfer(books, command)
    case 'PlaceHold':
      return holds.placeHold(books, command)
    case 'CaptureHold':
      return holds.captureHold(books, command)
    case 'ReleaseHold':
    case 'ExpireHold':
      return holds.endHold(books, command)
    case 'FreezeAccount':
      return freeze(books, command)
    case 'UnfreezeAccount':
      return unfreeze(books, command)
    case 'ChangeOverdraftLimit':
      return changeOverdraftLimit(books, command)
    case 'ReverseTransaction':
      return reverse(books, command)
    case 'UpdateAccountDetails':
      return updateDetails(books, command)
    default:
      return assert.fail(command satisfies never)
  }
}

/** The accounts that a command names. Those of a transaction it names are found by that. */
export function accountsOf(command: Command): readonly string[] {
  if (command.kind === 'Transfer') return [command.from, command.to]
  return command.kind === 'ReverseTransaction' ? [] : [command.accountId]
}

/** What must be read before it is decided. */
export function namedBy(commands: readonly Command[]) {
  return {
    accounts: [...new Set(commands.flatMap(accountsOf))],
    holds: [...new Set(commands.flatMap((each) => ('holdId' in each ? [each.holdId] : [])))],
    transactions: [
      ...new Set(
        commands.flatMap((each) =>
          each.kind === 'ReverseTransaction' ? [each.reversedTransactionId] : [],
        ),
      ),
    ],
  }
}
