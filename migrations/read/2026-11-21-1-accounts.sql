-- What the query side keeps: one row per account, and how far each projection has read.
create schema read;

create table read.accounts (
  id text collate "C" primary key,
  owner text not null,
  currency text not null,
  exponent smallint not null,
  type text not null,
  status text not null,
  frozen text,
  ledger_balance bigint not null,
  held bigint not null,
  available bigint not null,
  overdraft_limit bigint not null,
  metadata jsonb not null,
  version bigint not null,
  last_event_id uuid not null,
  opened_at timestamptz not null,
  as_of timestamptz not null
);
create index accounts_owner on read.accounts (owner, id);

-- next_offset is written in the transaction that applied everything below it. topic_id tells a
-- topic from another of the same name: offsets of a topic made anew mean something else.
create table read.offsets (
  projection text not null,
  topic text not null,
  partition int not null,
  topic_id uuid not null,
  next_offset bigint not null,
  primary key (projection, topic, partition)
);

-- The newest heartbeat that came through each partition: proof that the whole pipe moves.
create table read.heartbeats (
  projection text not null,
  partition int not null,
  occurred_at timestamptz not null,
  applied_at timestamptz not null,
  primary key (projection, partition)
);

grant usage on schema read to sluice_projector, sluice_query;
grant select, insert, update, delete on all tables in schema read to sluice_projector;
grant select on all tables in schema read to sluice_query;
