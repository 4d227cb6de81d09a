-- Partitions of the outbox whose every position is published, from the moment that this was first
-- seen until they are dropped. published_lsn lies after the commit of each of their rows: a slot that
-- is confirmed there has passed them.
create table outbox.published_partitions (
  name text collate "C" primary key,
  first_position bigint not null,
  last_position bigint not null check (last_position >= first_position),
  published_at timestamptz not null default clock_timestamp(),
  published_lsn pg_lsn not null default pg_current_wal_insert_lsn(),
  -- kept; retiring: it is being detached, or is, by us, and will be dropped; held: it is detached, and
  -- progress does not call it published any more, so that only a person may decide.
  step text not null default 'kept' check (step in ('kept', 'retiring', 'held'))
);
grant select, insert, update, delete on outbox.published_partitions to sluice_maintenance;
grant select on outbox.published_partitions to sluice_relay;

-- What maintenance judges by, and where it says what it did.
grant select on outbox.relay, outbox.gaps to sluice_maintenance;
grant insert on outbox.audit to sluice_maintenance;
