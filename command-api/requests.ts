import { hash } from 'node:crypto'
import { httpProblem } from 'service/problem'
import { parsePart, type ApiRequest } from 'service/route'
import { z } from 'zod'
import type { CommandRequest } from './batch.ts'
import type { Command } from './commands.ts'
import type { Birth, CommandForm } from './form.ts'
import { problem } from './problems.ts'

// From an HTTP request to a command.

export const commandQuery = z.strictObject({ dryRun: z.enum(['true', 'false']).optional() })

/** What was asked, such that the form of its name reads the same command from it again. */
export type Asked = { command: string; params: Readonly<Record<string, string>>; said: unknown }

export function readRequest(
  form: CommandForm<Command>,
  request: ApiRequest,
  birth: Birth,
): { command: CommandRequest; asked: Asked } {
  requireRole(form, request)
  const { command, said } = form.read(request, birth)
  const dryRun = parsePart(commandQuery, request.query, 'query').dryRun === 'true'
  const made = {
    caller: request.caller.name,
    key: dryRun ? '' : idempotencyKey(request),
    fingerprint: fingerprintOf(`${request.method}\n${request.path}\n${JSON.stringify(said)}`),
    commandId: birth.newId(),
    command,
    ifMatch: ifMatch(form, request.header('If-Match')),
    trace: request.trace,
    dryRun,
  }
  return { command: made, asked: { command: form.name, params: request.params, said } }
}

/** Whether the caller would rather not wait (RFC 7240); among others, or with values, too. */
export function wantsNoAnswer(request: ApiRequest): boolean {
  const preferences = request.header('Prefer')?.split(',') ?? []
  return preferences.some((each) => each.split(';')[0]?.trim().toLowerCase() === 'respond-async')
}

/**
 * `text` is what was asked, as parsed, its fields in the schema's order: two spellings of one
 * request are one.
 */
export const fingerprintOf = (text: string) => hash('sha256', text, 'buffer')

export function requireRole({ role, name }: CommandForm<Command>, { caller }: ApiRequest): void {
  if (role === undefined || caller.role === role) return
  throw httpProblem('not_allowed', { detail: `${name} is for the role ${role}` })
}

function idempotencyKey(request: ApiRequest): string {
  const key = request.header('Idempotency-Key')
  if (key === undefined) throw problem('idempotency_key_missing')
  if (keyPattern.test(key)) return key
  throw httpProblem('invalid_header', {
    errors: [{ pointer: 'Idempotency-Key', message: 'must be 1 to 255 visible ASCII characters' }],
  })
}

export const keyPattern = /^[\x21-\x7e]{1,255}$/

/**
 * The versions that If-Match wants, any of them; undefined where it wants none in particular. Weak
 * tags and tags of another kind match no version.
 */
export function ifMatch(
  form: CommandForm<Command>,
  sent: string | undefined,
): ReadonlySet<string> | undefined {
  const header = sent?.trim()
  if (header === undefined && form.ifMatch === 'required') {
    throw problem('precondition_required', { detail: 'send If-Match with the ETag last seen' })
  }
  if (header === undefined || header === '*' || form.ifMatch === 'none') return undefined
  const tag = String.raw`(?:W/)?"[\x21\x23-\x7e]*"`
  if (new RegExp(`^${tag}(?:\\s*,\\s*${tag})*$`).test(header)) {
    return new Set(header.split(',').map((each) => each.trim()))
  }
  throw httpProblem('invalid_header', {
    errors: [{ pointer: 'If-Match', message: 'must be ETags of this account, such as "3"' }],
  })
}
