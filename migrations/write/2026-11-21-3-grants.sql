-- Each service may do what it does and no more; migrations/grants.pg.test.ts tries the rest.
grant usage on schema ledger to sluice_command;
grant select, insert, update on ledger.accounts to sluice_command;
grant select, insert on ledger.account_events, ledger.entries, ledger.idempotency to sluice_command;
grant select, insert, update on ledger.heartbeats to sluice_command;

grant usage on schema outbox to sluice_command, sluice_relay, sluice_cdc;
-- The parent only: an insert straight into a partition would take no lock on the parent, and the
-- relay's proof that a position stays empty rests on that lock.
grant insert on outbox.events to sluice_command;
-- The command side returns the position it drew, and reads nothing else of the queue.
grant select (position, id) on outbox.events to sluice_command;

grant select on outbox.events to sluice_relay, sluice_cdc;
grant select, update on outbox.relay to sluice_relay;
grant select, insert, update, delete on outbox.gaps to sluice_relay;
