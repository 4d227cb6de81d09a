-- Accounts by balance, cut into half-open ranges at the edges of their currency.

-- The edges in force, in minor units and rising: n of them make n + 1 tiers, 0 below the first one.
-- What TIERS says is put here when a process starts, and everything that cuts reads it here, so
-- that two processes can never cut in two ways.
create table read.tiers_edges (
  currency text primary key,
  -- Null until an account of it is opened.
  exponent smallint,
  edges bigint[] not null
);

create table read.tiers_heads (
  account_id text collate "C" primary key,
  version bigint not null,
  last_event_id uuid not null,
  currency text not null,
  tier int not null,
  balance bigint not null
);
create index tiers_members on read.tiers_heads (currency, tier, account_id);

-- Counts and totals are sums over the slots: transactions that count at the same moment each have a
-- slot of their own, so that none waits for another. Alone, a slot's figures mean nothing.
create table read.tiers_tallies (
  slot int not null,
  currency text not null,
  tier int not null,
  accounts bigint not null,
  total numeric not null,
  -- Every event ever applied, and the time of the newest: how new the figures are.
  events bigint not null,
  as_of timestamptz,
  primary key (slot, currency, tier)
) with (fillfactor = 50);

grant select, insert, update, delete
  on read.tiers_edges, read.tiers_heads, read.tiers_tallies to sluice_projector;
grant select on read.tiers_edges, read.tiers_heads, read.tiers_tallies to sluice_query;
