-- What somebody is to be told, written in the transaction of the projection that noticed it, and
-- removed once it was told.
create table read.notifications (
  kind text not null,
  account_id text collate "C" not null,
  -- The account's version of the event that it tells of.
  version bigint not null,
  at timestamptz not null,
  body jsonb not null,
  attempts int not null default 0,
  next_attempt_at timestamptz not null default clock_timestamp(),
  -- What the last attempt met.
  problem text,
  primary key (kind, account_id, version)
);
create index notifications_due on read.notifications (next_attempt_at);

create table read.notifications_heads (
  account_id text collate "C" primary key,
  version bigint not null,
  last_event_id uuid not null
) with (fillfactor = 80);

grant select, insert, update, delete on read.notifications, read.notifications_heads
  to sluice_projector;
grant select on read.notifications, read.notifications_heads to sluice_query;
