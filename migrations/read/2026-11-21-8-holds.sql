-- Money set aside, and what became of it.
create table read.holds (
  id uuid not null,
  account_id text collate "C" not null,
  amount bigint not null,
  currency text not null,
  reference text,
  status text not null check (status in ('active', 'captured', 'released', 'expired')),
  expires_at timestamptz not null,
  -- The account's version when it was placed: the order of the list.
  placed_version bigint not null,
  placed_at timestamptz not null,
  ended_version bigint,
  ended_at timestamptz,
  -- Of a captured one: what left the account, and by which transaction.
  captured_amount bigint,
  transaction_id uuid,
  primary key (account_id, id)
) with (fillfactor = 80);
create index holds_list on read.holds (account_id, placed_version);
create index holds_by_status on read.holds (account_id, status, placed_version);

create table read.holds_heads (
  account_id text collate "C" primary key,
  version bigint not null,
  last_event_id uuid not null,
  as_of timestamptz not null
) with (fillfactor = 80);

grant select, insert, update, delete on read.holds, read.holds_heads to sluice_projector;
grant select on read.holds, read.holds_heads to sluice_query;
