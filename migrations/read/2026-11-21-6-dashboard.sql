-- Movements by the second and by the minute in which they were recorded, of the last minute and
-- hour.
create table read.dashboard_heads (
  account_id text collate "C" primary key,
  version bigint not null,
  last_event_id uuid not null,
  -- What the account has in buckets that are still shown, [seconds, start, movements] each: what is
  -- to be taken out of them again when the account is forgotten.
  recent jsonb not null
);

-- As read.tiers_tallies: sums over the slots. A bucket is 1 or 60 seconds long; the row of 0
-- seconds is no bucket, and counts every event ever applied. Older buckets are deleted by who adds
-- new ones.
create table read.dashboard_tallies (
  slot int not null,
  seconds int not null,
  starts_at timestamptz not null,
  movements bigint not null,
  events bigint not null,
  as_of timestamptz,
  primary key (slot, seconds, starts_at)
) with (fillfactor = 50);

grant select, insert, update, delete
  on read.dashboard_heads, read.dashboard_tallies to sluice_projector;
grant select on read.dashboard_heads, read.dashboard_tallies to sluice_query;
