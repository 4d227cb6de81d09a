-- One line per movement of money, in the order in which an account's were recorded. recorded_at never
-- steps back within an account, so that (recorded_at, version) is that order: one index serves lists,
-- statements and the balance at a time. Which version comes once is the guard's to see.
create table read.statement_lines (
  account_id text collate "C" not null,
  recorded_at timestamptz not null,
  version bigint not null,
  effective_at timestamptz not null,
  kind text not null,
  -- Credits are positive.
  amount bigint not null,
  -- The ledger balance after this line, and how much of it lines have brought whose two times differ.
  balance bigint not null,
  shifted_total bigint not null,
  -- Null only where an event was left out, and only its amount is known.
  transaction_id uuid,
  -- The transfer, the hold, or the transaction that is reversed.
  related_id uuid,
  counterparty_id text,
  reference text,
  primary key (account_id, recorded_at, version)
);

-- Lines whose effective time is another than the one recorded; and their amounts by effective day (UTC),
-- so that a balance at an effective time costs one day's lines and not a whole history's.
create index statement_lines_shifted on read.statement_lines (account_id, effective_at, version)
  include (amount) where effective_at <> recorded_at;
create table read.statement_shifts (
  account_id text collate "C" not null,
  day date not null,
  total bigint not null,
  primary key (account_id, day)
);

create table read.statements_heads (
  account_id text collate "C" primary key,
  version bigint not null,
  last_event_id uuid not null,
  currency text not null,
  exponent smallint not null,
  balance bigint not null,
  shifted_total bigint not null,
  -- When the last event was recorded, as text that sorts by time.
  as_of text collate "C" not null
) with (fillfactor = 70);

grant select, insert, update, delete
  on read.statement_lines, read.statement_shifts, read.statements_heads to sluice_projector;
grant select on read.statement_lines, read.statement_shifts, read.statements_heads to sluice_query;
