-- Search over owners, metadata and references, without a server of its own. A document's words are
-- cut by the projection, so that they are the same whatever the database's locale is.
create extension if not exists pg_trgm with schema read;

create table read.search_accounts (
  account_id text collate "C" primary key,
  owner text not null,
  -- Words of the owner have weight A, those of the metadata B.
  document tsvector not null,
  version bigint not null,
  recorded_at timestamptz not null
);
create index search_accounts_document on read.search_accounts using gin (document);

-- One row per movement that has a reference.
create table read.search_references (
  account_id text collate "C" not null,
  version bigint not null,
  transaction_id uuid not null,
  reference text not null,
  document tsvector not null,
  recorded_at timestamptz not null,
  primary key (account_id, version)
);
create index search_references_document on read.search_references using gin (document);

-- Every word that was ever in a document, those with a digit left out: what a misspelt word is
-- compared with. A word that no document has any more stays, and finds nothing.
create table read.search_words (word text collate "C" primary key);
create index search_words_trigrams on read.search_words using gin (word read.gin_trgm_ops);

create table read.search_heads (
  account_id text collate "C" primary key,
  version bigint not null,
  last_event_id uuid not null
) with (fillfactor = 80);

-- For each of some words: itself where it is known, words that it begins, and words like it.
create function read.search_words_like(words text[])
  returns table (given text, word text, similarity real)
  language sql stable
  set pg_trgm.similarity_threshold = 0.2
  set enable_seqscan = off
as $$
  select given, found.word, read.similarity(found.word, given)
  from unnest(words) as given, lateral (
    (select w.word from read.search_words w where w.word = given)
    union
    (select w.word from read.search_words w
      where w.word >= given and w.word < given || U&'\FFFD' order by w.word limit 8)
    union
    (select w.word from read.search_words w where w.word operator(read.%) given
      order by read.similarity(w.word, given) desc, w.word limit 40)
  ) as found
$$;

-- The best of at most 1,000 accounts and 1,000 movements that match `near`; those that match `exact`
-- come first. The bound is what keeps a word that a million rows have as quick as any other. Without
-- the setting such a word would make the planner read the table instead of the index.
create function read.search_documents(exact tsquery, near tsquery, most int)
  returns table (kind text, account_id text, version bigint, recorded_at timestamptz,
    transaction_id uuid, content text, score real)
  language sql stable
  set enable_seqscan = off
as $$
  with accounts as materialized (
    select a.* from read.search_accounts a where a.document @@ near limit 1000
  ), movements as materialized (
    select r.* from read.search_references r where r.document @@ near limit 1000
  )
  select 'account', a.account_id, a.version, a.recorded_at, null::uuid, a.owner,
    ts_rank(a.document, exact, 1) + ts_rank(a.document, near, 1) / 4 as score
  from accounts a
  union all
  select 'movement', r.account_id, r.version, r.recorded_at, r.transaction_id, r.reference,
    ts_rank(r.document, exact, 1) + ts_rank(r.document, near, 1) / 4
  from movements r
  order by score desc, account_id, version desc
  limit most
$$;

grant select, insert, update, delete on read.search_accounts, read.search_references,
  read.search_words, read.search_heads to sluice_projector;
grant select on read.search_accounts, read.search_references, read.search_words,
  read.search_heads to sluice_query;
