-- Accounts that a projection cannot bring further from its log, and why. A row is written in the
-- transaction that moves the offset past the event in question, and removed only under its lock, by
-- who has brought the account to `highest` or above from the feed.
create table read.quarantine (
  projection text not null,
  -- An account, or `record-<partition>@<offset>` where a record does not say whose it is.
  account_id text collate "C" not null,
  code text not null,
  detail text not null,
  -- The version that the read model had next, and the one that came; null where a record hid it.
  wanted bigint,
  seen bigint,
  -- The highest version seen since, in events that were not applied.
  highest bigint not null,
  -- Where in the log it began; record_offset is null where the log shows nothing (a lost tail).
  topic text not null,
  partition int not null,
  record_offset bigint,
  since timestamptz not null default clock_timestamp(),
  -- Up to this version, what cannot be applied may be left out: a person said so, in read.audit.
  skip_through bigint,
  attempts int not null default 0,
  next_attempt_at timestamptz not null default clock_timestamp(),
  -- What the last attempt met.
  problem text,
  problem_detail text,
  primary key (projection, account_id)
);
create index quarantine_due on read.quarantine (projection, next_attempt_at);

-- What people did to the read side by hand.
create table read.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  caller text not null,
  role text not null,
  action text not null,
  projection text not null,
  account_id text not null,
  reason text,
  before jsonb not null,
  after jsonb not null
);

grant select, insert, update, delete on read.quarantine to sluice_projector;
grant select, insert on read.audit to sluice_projector;
grant select on read.quarantine, read.audit to sluice_query;
