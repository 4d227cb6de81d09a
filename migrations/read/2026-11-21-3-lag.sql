-- When the last record below next_offset was written: how late a projection is, in seconds. Null
-- until a record was applied.
alter table read.offsets add column through_at timestamptz;
