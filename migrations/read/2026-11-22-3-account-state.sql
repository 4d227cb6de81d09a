-- Accounts that somebody asked to be removed from the topic account-state, up to a version: kept, so
-- that an event that comes again does not bring the account back.
create table read.account_state_tombstones (
  account_id text collate "C" primary key,
  partition int not null,
  through_version bigint not null,
  asked_at timestamptz not null default clock_timestamp(),
  written_at timestamptz
);
create index account_state_tombstones_due on read.account_state_tombstones (partition)
  where written_at is null;

grant select, insert, update on read.account_state_tombstones to sluice_projector;
grant select on read.account_state_tombstones to sluice_query;
