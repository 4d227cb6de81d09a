-- What the relay remembers beyond polling: which history of the server its progress was made on, which
-- mode was asked for, and what was done to it.
alter table outbox.relay
  -- A failover or a restore begins another timeline: positions may then mean other events.
  add column timeline bigint,
  -- The value of RELAY_MODE that was acted upon last. The row decides; the variable does only when
  -- it has changed.
  add column mode_variable text;

-- Every change of mode, and everything done to a slot, a connector or the progress by hand or by the
-- relay on its own: who, what, before, after, why, when.
create table outbox.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  epoch bigint not null,
  actor text not null,
  action text not null,
  before text,
  after text,
  reason text not null
);
grant select, insert on outbox.audit to sluice_relay;
-- Positions drawn below what was published tell of a server that lost commits.
grant select on sequence outbox.events_position_seq to sluice_relay;
