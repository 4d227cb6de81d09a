-- Holds and reversals as they stand: the fold of the events that name them. A hold changes only under
-- its account's lock; a transaction is reversed once, whoever asks at the same moment.
create table ledger.holds (
  id uuid primary key,
  account_id text collate "C" not null,
  amount bigint not null check (amount > 0),
  status text not null check (status in ('active', 'captured', 'released', 'expired')),
  expires_at timestamptz not null
);
-- What the timer looks for, and what the audit adds up.
create index holds_due on ledger.holds (expires_at) where status = 'active';
create index holds_account on ledger.holds (account_id) where status = 'active';

create table ledger.reversals (
  transaction_id uuid primary key,
  reversed_by uuid not null unique,
  reversed_at timestamptz not null
);
create trigger reversals_append_only before update or delete or truncate
  on ledger.reversals for each statement execute function ledger.refuse_change();

-- Commands whose caller does not wait: a row exists before the 202 leaves. The outcome is the answer
-- under the same caller and key; `pending` only says that nobody has seen it yet, so that the timer
-- need not look at every operation ever.
create table ledger.operations (
  id uuid primary key,
  caller text not null,
  key text not null,
  fingerprint bytea not null,
  -- The command as it was asked: its name, parameters, body, If-Match and trace.
  asked json not null,
  requested_at timestamptz not null,
  pending boolean not null default true,
  -- A bug met it: it is not tried again.
  failed boolean not null default false,
  unique (caller, key)
);
create index operations_pending on ledger.operations (requested_at) where pending;

-- Not even a session that replays replicated rows skips these.
alter table ledger.account_events enable always trigger account_events_append_only;
alter table ledger.entries enable always trigger entries_append_only;
alter table ledger.entries enable always trigger entries_balance;
alter table ledger.reversals enable always trigger reversals_append_only;

grant select, insert, update on ledger.holds to sluice_command;
grant select, insert on ledger.reversals to sluice_command;
grant select, insert, update on ledger.operations to sluice_command;
