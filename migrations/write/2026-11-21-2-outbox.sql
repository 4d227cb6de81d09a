-- The delivery queue between the write side and Kafka, and the relay's own progress.
create schema outbox;
grant usage, create on schema outbox to sluice_maintenance;

-- Insert-only and in position order. CACHE 1 (the default) matters: a session that cached positions
-- would draw low ones long after others committed high ones. NOT NULL everywhere: a null column
-- would become a Kafka header with a null value in one mode and none in another.
create table outbox.events (
  position bigint generated always as identity (cache 1) primary key,
  id uuid not null,
  aggregatetype text not null,
  aggregateid text not null,
  aggregateversion bigint not null,
  type text not null,
  payload json not null,
  source text not null,
  specversion text not null,
  traceparent text not null,
  correlationid text not null,
  causationid text not null,
  occurred_at timestamptz not null
) partition by range (position);

-- Positions 1 to 100,000,000. No default partition: with one, DETACH CONCURRENTLY is refused and a
-- filled range cannot be created. Each partition is attached, as later ones will be.
do $$
declare
  size constant bigint := 10000000;
  first bigint;
  name text;
begin
  for n in 0..9 loop
    first := n * size + 1;
    name := format('events_%s', lpad(first::text, 15, '0'));
    execute format('create table outbox.%I (like outbox.events including defaults including constraints including indexes)', name);
    execute format('alter table outbox.events attach partition outbox.%I for values from (%s) to (%s)', name, first, first + size);
    execute format('alter table outbox.%I owner to sluice_maintenance', name);
  end loop;
end $$;
alter table outbox.events owner to sluice_maintenance;

-- A publication before any slot (a slot made first can fail to decode with it). Through the root, so
-- that a subscriber sees one table whatever its partitions.
create publication sluice_outbox for table outbox.events
  with (publish = 'insert', publish_via_partition_root = true);

-- One row: who leads, how far it is confirmed. published = below next_position, minus open gaps.
create table outbox.relay (
  singleton boolean primary key default true check (singleton),
  mode text not null default 'polling' check (mode in ('polling', 'wal', 'debezium')),
  leader text,
  epoch bigint not null default 0,
  renewal bigint not null default 0,
  next_position bigint not null default 1,
  system_identifier text
);
insert into outbox.relay default values;

-- Open gaps: ranges of positions below next_position that were not visible when it passed them. One
-- row each, so that a save writes only what changed.
create table outbox.gaps (
  first_position bigint primary key,
  last_position bigint not null check (last_position >= first_position)
);
