-- What is worth a second look, with the events that say so.
create table read.risk_flags (
  account_id text collate "C" not null,
  -- The account's version of the event that raised it.
  version bigint not null,
  kind text not null,
  -- When that event was recorded.
  at timestamptz not null,
  detail text not null,
  -- [{"version", "id", "type", "at"}] in version order, the one that raised it last.
  events jsonb not null,
  primary key (account_id, version, kind)
);
create index risk_flags_list on read.risk_flags (at, account_id, version, kind);
create index risk_flags_by_kind on read.risk_flags (kind, at, account_id, version);
create index risk_flags_by_account on read.risk_flags (account_id, at, version, kind);

create table read.risk_heads (
  account_id text collate "C" primary key,
  version bigint not null,
  last_event_id uuid not null,
  -- What the rules remember of the account's history.
  history jsonb not null
) with (fillfactor = 80);

grant select, insert, update, delete on read.risk_flags, read.risk_heads to sluice_projector;
grant select on read.risk_flags, read.risk_heads to sluice_query;
