import type { Progress } from './progress.ts'
import { connect } from './servers.ts'

// The events of parts a and b: each row a transaction of its own, as the command side writes when
// it is idle, and every account's events real ones in version order (opened, then deposits).

export const eventsPerAccount = 30

/**
 * Fills an empty outbox with `events` rows, `eventsPerAccount` of each account, positions 1 to
 * `events`. Written without waiting for the disk: how fast the outbox fills is not measured.
 */
export async function fillOutbox(url: string, events: number, progress: Progress): Promise<void> {
  progress.step(`filling the outbox with ${events} one-row transactions`)
  await using client = await connect(url)
  await client.query('set synchronous_commit = off')
  const accounts = events / eventsPerAccount
  for (let version = 1; version <= eventsPerAccount; version += 1) {
    await client.query(fillText(version, accounts))
    progress.tick(`${version * accounts} of ${events}`)
  }
  await client.query('vacuum analyze outbox.events')
}

/** One version of every account. A DO block takes no parameters; the numbers are ours. */
function fillText(version: number, accounts: number): string {
  const type = version === 1 ? 'AccountOpened.v1' : 'FundsDeposited.v1'
  const payload =
    version === 1
      ? `'{"accountId":"bench-%s","owner":"Ada Lovelace","currency":"EUR","exponent":2,"type":"current","overdraftLimit":"0","metadata":{},"after":{"version":1,"ledgerBalance":"0","held":"0","available":"0","status":"open"}}', n`
      : `'{"accountId":"bench-%s","transactionId":"%s","amount":"100","currency":"EUR","reference":null,"effectiveAt":"%s","after":{"version":${version},"ledgerBalance":"${(version - 1) * 100}","held":"0","available":"${(version - 1) * 100}","status":"open"}}', n, gen_random_uuid(), effective`
  return `do $$ declare
    at timestamptz;
    effective text;
  begin
    for n in 1..${accounts} loop
      at := date_trunc('milliseconds', clock_timestamp());
      effective := to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
      insert into outbox.events (id, aggregatetype, aggregateid, aggregateversion, type, payload,
        source, specversion, traceparent, correlationid, causationid, occurred_at)
      values (gen_random_uuid(), 'account', 'bench-' || n, ${version}, '${type}',
        format(${payload})::json, 'urn:sluice:command-api', '1.0',
        '00-' || md5(n::text) || '-00f067aa0ba902b7-01', gen_random_uuid()::text,
        gen_random_uuid()::text, at);
      commit;
    end loop;
  end $$`
}
