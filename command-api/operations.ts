import assert from 'node:assert/strict'
import type { Pool } from 'pg'
import type { Log } from 'service/log'
import { httpProblem } from 'service/problem'
import { parsePart, type ApiAnswer, type ApiRequest, type Route } from 'service/route'
import { z } from 'zod'
import type { Answer } from './answer.ts'
import type { CommandRequest } from './batch.ts'
import type { Command } from './commands.ts'
import type { Birth, CommandForm } from './form.ts'
import { problem } from './problems.ts'
import type { Asked } from './requests.ts'

// Commands whose caller does not wait. What was asked is a row before the 202 leaves; its outcome is
// the answer kept under its key, which the command's own transaction writes. So a process that dies in
// between loses nothing: whoever finds the row executes it, and the key makes that safe.

export type OperationSettings = {
  pool: Pool
  forms: readonly CommandForm<Command>[]
  execute: (request: CommandRequest) => Promise<Answer>
  birth: Birth
  log: Log
}

/** A younger operation is still with the process that took it. */
const abandonedMs = 10_000
const atOnce = 200

const insertText = `
with made as (
  insert into ledger.operations (id, caller, key, fingerprint, asked, requested_at)
  values ($1, $2, $3, $4, $5, $6)
  on conflict (caller, key) do nothing returning id, fingerprint
)
select id, fingerprint, true as made from made
union all
select id, fingerprint, false from ledger.operations where caller = $2 and key = $3`

/** 202 with the operation's address; the same again for the same request under the same key. */
export async function acceptOperation(
  settings: OperationSettings,
  request: CommandRequest,
  asked: Asked,
): Promise<ApiAnswer> {
  const { pool, birth } = settings
  const { caller, key, fingerprint, ifMatch, trace } = request
  const row = { ...asked, ifMatch: ifMatch === undefined ? null : [...ifMatch], trace }
  const operationId = birth.newId()
  const at = birth.now().toISOString()
  const values = [operationId, caller, key, fingerprint, JSON.stringify(row), at]
  type Row = { id: string; fingerprint: Buffer; made: boolean }
  const insert = async () =>
    (await pool.query<Row>({ name: 'operation-insert', text: insertText, values })).rows[0]
  // None: the same key's row came in beside this statement, which the next one sees.
  const found = (await insert()) ?? (await insert())
  assert(found !== undefined, 'an operation is made or is there')
  if (!found.fingerprint.equals(fingerprint)) throw problem('idempotency_key_reused')
  if (found.made) void perform(settings, found.id, request)
  return {
    status: 202,
    headers: { Location: `/operations/${found.id}`, 'Preference-Applied': 'respond-async' },
    body: { id: found.id, status: 'processing' },
  }
}

/** Never rejects. A bug ends the operation: to try it for ever would help nobody. */
async function perform(settings: OperationSettings, id: string, request: CommandRequest) {
  const { pool, execute, log } = settings
  try {
    await execute(request)
  } catch (error) {
    log.error({ event: 'operation_failed', err: error, operation: id }, 'an operation failed')
    const text = 'update ledger.operations set pending = false, failed = true where id = $1'
    await pool.query(text, [id]).catch((cause: unknown) => {
      log.error({ event: 'operation_failed', err: cause, operation: id }, 'and is not marked so')
    })
  }
}

type PendingRow = {
  id: string
  caller: string
  key: string
  fingerprint: Buffer
  asked: Asked & { ifMatch: string[] | null; trace: CommandRequest['trace'] }
}

/** Executes what other processes took and did not get to, and closes what has its answer. */
export async function resumeOperations(settings: OperationSettings): Promise<void> {
  const { pool, birth } = settings
  await pool.query(`update ledger.operations o set pending = false
    where pending and exists (
      select from ledger.idempotency i where i.caller = o.caller and i.key = o.key)`)
  const before = new Date(birth.now().getTime() - abandonedMs).toISOString()
  const { rows } = await pool.query<PendingRow>({
    name: 'operations-abandoned',
    text: `select id, caller, key, fingerprint, asked from ledger.operations
      where pending and requested_at <= $1 order by requested_at limit $2`,
    values: [before, atOnce],
  })
  await Promise.all(rows.map((row) => perform(settings, row.id, requestOf(settings, row))))
}

function requestOf({ forms, birth }: OperationSettings, row: PendingRow): CommandRequest {
  const { asked, caller, key, fingerprint } = row
  const form = forms.find((each) => each.name === asked.command)
  if (form === undefined) throw new Error(`no command ${asked.command}, which was accepted`)
  return {
    caller,
    key,
    fingerprint,
    commandId: birth.newId(),
    command: form.read({ params: asked.params, body: asked.said }, birth).command,
    ifMatch: asked.ifMatch === null ? undefined : new Set(asked.ifMatch),
    trace: asked.trace,
    dryRun: false,
  }
}

type OperationRow = {
  command: string
  requested_at: Date
  failed: boolean
  status: number | null
  body: string | null
  etag: string | null
  token: string | null
  same: boolean | null
}

const operationPath = z.strictObject({ id: z.uuid() })

/** Where the caller of an operation looks for its outcome; nobody else finds it. */
export function operationRoute(pool: Pool): Route {
  return {
    method: 'GET',
    path: '/operations/:id',
    async handle(request) {
      const { id } = parsePart(operationPath, request.params, 'path')
      const { rows } = await pool.query<OperationRow>({
        name: 'operation',
        text: `select asked ->> 'command' as command, requested_at, failed, i.status,
            i.body::text as body, i.etag, i.token, i.fingerprint = o.fingerprint as same
          from ledger.operations o left join ledger.idempotency i using (caller, key)
          where id = $1 and caller = $2`,
        values: [id, request.caller.name],
      })
      const row = rows[0]
      if (row === undefined) throw problem('operation_not_found', { detail: id })
      return operationAnswer(id, row, request)
    },
  }
}

/** `answer` is what the command's caller would have been told. */
function operationAnswer(id: string, row: OperationRow, request: ApiRequest): ApiAnswer {
  const answer = outcomeOf(row, request)
  const operation = {
    id,
    command: row.command,
    requestedAt: row.requested_at.toISOString(),
    status: answer === null ? 'processing' : 'done',
  }
  const text = answer === null ? 'null' : answerText(answer)
  return {
    status: 200,
    text: `${JSON.stringify(operation).slice(0, -1)},"answer":${text}}`,
    headers: answer?.token ? { 'Consistency-Token': answer.token } : {},
  }
}

type Kept = Pick<Answer, 'status' | 'body' | 'etag' | 'token'>

/** An answer beside others: its body, JSON text itself, stands in it as it is. */
export function answerText({ status, body, etag, token }: Kept): string {
  return `${JSON.stringify({ status, etag, token }).slice(0, -1)},"body":${body}}`
}

function outcomeOf(row: OperationRow, { trace }: ApiRequest): Kept | null {
  const { status, body, etag, token, same, failed } = row
  const refused = failed
    ? httpProblem('internal_error')
    : same === false
      ? problem('idempotency_key_reused')
      : null
  if (refused !== null) {
    const text = JSON.stringify(refused.body(trace.traceId))
    return { status: refused.kind.status, body: text, etag: null, token: null }
  }
  return status === null || body === null ? null : { status, body, etag, token }
}
