-- A switch of the relay's mode that is under way. The row decides, whichever relay was asked. Each step
-- is written before the action outside that it names, so that a successor knows what may be half done.
alter table outbox.relay
  add column switch_to text check (switch_to in ('polling', 'wal', 'debezium')),
  add column switch_since timestamptz,
  add column switch_by text,
  add column switch_reason text,
  add column switch_step text,
  add column switch_waiting_for text;

-- A person who asks for something may say why, or not.
alter table outbox.audit alter column reason drop not null;
