-- Double entry is refused per statement instead of per row at commit: whatever one statement inserts
-- must sum to zero for each transaction and currency by itself. Stricter than before (a transaction
-- can no longer be completed by a second statement), it needs no look at what is already there, since
-- sums of zero add up to zero, and it runs once for a whole batch of commands.
create function ledger.refuse_unbalanced_entries() returns trigger language plpgsql as $$
declare
  unbalanced uuid;
begin
  select transaction_id into unbalanced from inserted
  group by transaction_id, currency having sum(amount) <> 0 limit 1;
  if found then
    raise exception 'entries of transaction % do not sum to zero', unbalanced
      using errcode = 'check_violation', constraint = 'entries_balance', table = 'entries',
        schema = 'ledger';
  end if;
  return null;
end $$;

drop trigger entries_balance on ledger.entries;
drop function ledger.refuse_unbalanced_transaction();

create trigger entries_balance after insert on ledger.entries
  referencing new table as inserted
  for each statement execute function ledger.refuse_unbalanced_entries();
