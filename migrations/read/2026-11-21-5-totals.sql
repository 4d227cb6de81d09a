-- Money by currency and status of its accounts.
create table read.totals_heads (
  account_id text collate "C" primary key,
  version bigint not null,
  last_event_id uuid not null,
  currency text not null,
  status text not null,
  ledger_balance bigint not null,
  held bigint not null,
  available bigint not null
);

-- As read.tiers_tallies: sums over the slots.
create table read.totals_tallies (
  slot int not null,
  currency text not null,
  status text not null,
  accounts bigint not null,
  ledger_balance numeric not null,
  held numeric not null,
  available numeric not null,
  events bigint not null,
  as_of timestamptz,
  primary key (slot, currency, status)
) with (fillfactor = 50);

grant select, insert, update, delete on read.totals_heads, read.totals_tallies to sluice_projector;
grant select on read.totals_heads, read.totals_tallies to sluice_query;
