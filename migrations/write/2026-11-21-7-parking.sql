-- An event that Kafka refuses for itself parks its aggregate: it and everything of that aggregate that
-- comes after it wait here, as copies, until somebody says retry or skip. Copies, so that the queue's
-- own rows can be retired meanwhile.
create table outbox.parked_aggregates (
  aggregatetype text collate "C" not null,
  aggregateid text collate "C" not null,
  -- The event that was refused, and how.
  position bigint not null,
  version bigint not null,
  event_id uuid not null,
  event_type text not null,
  refusal text not null,
  record_bytes bigint not null,
  -- How often one of its events was refused, retries included.
  refusals integer not null default 1,
  refused_at timestamptz not null default clock_timestamp(),
  since timestamptz not null default clock_timestamp(),
  -- How many copies wait: counted with each change, so that nobody has to count them.
  events bigint not null,
  -- Somebody asked for it to be released. Set by any process, unset by the leader alone.
  releasing boolean not null default false,
  primary key (aggregatetype, aggregateid)
);
create index parked_aggregates_releasing on outbox.parked_aggregates (aggregatetype, aggregateid)
  where releasing;

-- The reference makes it impossible to forget an aggregate whose copies are still here.
create table outbox.parked (
  aggregatetype text collate "C" not null,
  aggregateid text collate "C" not null,
  position bigint not null,
  id uuid not null,
  aggregateversion bigint not null,
  type text not null,
  payload json not null,
  source text not null,
  specversion text not null,
  traceparent text not null,
  correlationid text not null,
  causationid text not null,
  occurred_at timestamptz not null,
  primary key (aggregatetype, aggregateid, position),
  foreign key (aggregatetype, aggregateid) references outbox.parked_aggregates
);
-- Large payloads are what is parked most. Compressing one would take longer than a save may.
alter table outbox.parked alter column payload set storage external;

grant select, insert, update, delete on outbox.parked_aggregates to sluice_relay;
grant select, insert, delete on outbox.parked to sluice_relay;
