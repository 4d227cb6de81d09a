-- Answers are kept for as long as is promised, then removed by the oldest first. That wants an index that
-- finds the oldest without a look at the rest: blocks are used again, so that a summary of each (BRIN)
-- would in time say of every block that it may hold an old one.
drop index ledger.idempotency_answered_at;
create index idempotency_answered_at on ledger.idempotency (answered_at);
grant delete on ledger.idempotency, ledger.operations to sluice_command;

-- Operations that ended without an answer of their own, which nothing else removes.
create index operations_failed on ledger.operations (requested_at) where failed;
