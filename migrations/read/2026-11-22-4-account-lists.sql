-- What lists of accounts go by. All of these columns stay as an account's opening left them, or nearly
-- so: an update that changes none of them is written to its page and to no index. A column that changes
-- with every event, such as the balance, has none therefore.
create index accounts_by_status on read.accounts (status, id);
create index accounts_by_currency on read.accounts (currency, id);
create index accounts_by_currency_status on read.accounts (currency, status, id);
create index accounts_by_opening on read.accounts (opened_at);
-- Room for such an update in each page.
alter table read.accounts set (fillfactor = 80);
