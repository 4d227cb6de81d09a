-- Partitions that stand still because their log is not what it was. A row is written when that is
-- noticed, and removed in the transaction that lets the partition go on: until then no restart passes
-- over it, even if the log has grown past the stored offset meanwhile. It holds only as long as
-- read.offsets stands where it stood.
create table read.stopped_partitions (
  projection text not null,
  topic text not null,
  partition int not null,
  code text not null,
  detail text not null,
  -- The stored offset, and its topic's id.
  topic_id uuid not null,
  next_offset bigint not null,
  -- The topic of that name as it was found: what a repair goes on with.
  found_topic_id uuid not null,
  since timestamptz not null default clock_timestamp(),
  -- When a person, named in read.audit, asked for the repair; null: nobody has.
  asked_at timestamptz,
  primary key (projection, topic, partition)
);

grant select, insert, update, delete on read.stopped_partitions to sluice_projector;
grant select on read.stopped_partitions to sluice_query;

-- What people do to a partition names no account.
alter table read.audit alter column account_id drop not null;
alter table read.audit add column partition int;
