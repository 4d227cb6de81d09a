-- The ledger: current state, every event for ever, and double entry beside them.
create schema ledger;

-- The present state of each account. It equals the fold of the account's events.
create table ledger.accounts (
  id text collate "C" primary key check (id ~ '^[A-Za-z0-9_-]{1,64}$' and id not like 'sluice-%'),
  owner text not null,
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  exponent smallint not null check (exponent between 0 and 4),
  type text not null,
  status text not null check (status in ('open', 'closed')),
  frozen text check (frozen in ('all', 'debits', 'credits')),
  ledger_balance bigint not null,
  held bigint not null check (held >= 0),
  overdraft_limit bigint not null check (overdraft_limit >= 0),
  metadata jsonb not null,
  version bigint not null check (version >= 1),
  opened_at timestamptz not null,
  as_of timestamptz not null
);

-- Every event for ever. outbox_position is where the same event stands in the delivery queue: the
-- feed resumes by it after the queue's own rows are long retired.
create table ledger.account_events (
  account_id text collate "C" not null,
  version bigint not null check (version >= 1),
  id uuid not null,
  type text not null,
  payload json not null,
  outbox_position bigint not null,
  traceparent text not null,
  correlationid text not null,
  causationid text not null,
  occurred_at timestamptz not null,
  primary key (account_id, version)
);
create unique index account_events_outbox_position on ledger.account_events (outbox_position);

-- Double entry: amounts are signed minor units, a credit of an account positive. System accounts
-- (sluice-...) appear only here: their balance is the sum of their entries, and nothing locks them.
create table ledger.entries (
  transaction_id uuid not null,
  account_id text collate "C" not null,
  account_version bigint,
  currency text not null,
  amount bigint not null check (amount <> 0),
  effective_at timestamptz not null,
  recorded_at timestamptz not null,
  check ((account_version is null) = (account_id like 'sluice-%'))
);
create index entries_transaction on ledger.entries (transaction_id);
create index entries_account on ledger.entries (account_id, account_version);

create function ledger.refuse_unbalanced_transaction() returns trigger language plpgsql as $$
begin
  if exists (
    select from ledger.entries
    where transaction_id = new.transaction_id
    group by currency having sum(amount) <> 0
  ) then
    raise exception 'entries of transaction % do not sum to zero', new.transaction_id
      using errcode = 'check_violation', constraint = 'entries_balance';
  end if;
  return null;
end $$;

create constraint trigger entries_balance after insert on ledger.entries
  deferrable initially deferred
  for each row execute function ledger.refuse_unbalanced_transaction();

-- Privileges already refuse this to the services; the trigger refuses it to the owner too.
create function ledger.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: % refused', tg_table_name, tg_op
    using errcode = 'insufficient_privilege';
end $$;

create trigger account_events_append_only before update or delete or truncate
  on ledger.account_events for each statement execute function ledger.refuse_change();
create trigger entries_append_only before update or delete or truncate
  on ledger.entries for each statement execute function ledger.refuse_change();

-- The first answer of every command, replayed to whoever repeats its key. Written in the command's
-- own transaction.
create table ledger.idempotency (
  caller text not null,
  key text not null,
  fingerprint bytea not null,
  status smallint not null,
  body json not null,
  etag text,
  token text,
  answered_at timestamptz not null,
  primary key (caller, key)
);
create index idempotency_answered_at on ledger.idempotency using brin (answered_at);

-- One locked row and its version per reserved heartbeat id; see command-api/heartbeat.ts.
create table ledger.heartbeats (
  id text collate "C" primary key,
  version bigint not null
);
