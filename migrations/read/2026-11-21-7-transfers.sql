-- Transfers, a row for each half. The halves are of two accounts, and their events in two partitions:
-- with rows of their own, two transactions never wait for each other, whichever half comes first.
create table read.transfer_halves (
  transfer_id uuid not null,
  side text not null check (side in ('from', 'to')),
  account_id text collate "C" not null,
  counterparty_id text collate "C" not null,
  transaction_id uuid not null,
  amount bigint not null,
  currency text not null,
  reference text,
  effective_at timestamptz not null,
  -- The account's version of the event, and when it was recorded.
  version bigint not null,
  recorded_at timestamptz not null,
  -- The transaction that moved this half back.
  reversed_by uuid,
  reversed_at timestamptz,
  primary key (transfer_id, side)
);
create index transfer_halves_account on read.transfer_halves (account_id, transaction_id);

create table read.transfers_heads (
  account_id text collate "C" primary key,
  version bigint not null,
  last_event_id uuid not null
) with (fillfactor = 80);

grant select, insert, update, delete on read.transfer_halves, read.transfers_heads to sluice_projector;
grant select on read.transfer_halves, read.transfers_heads to sluice_query;
