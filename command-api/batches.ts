import { Problem, httpProblem } from 'service/problem'
import { parsePart, type ApiAnswer, type ApiRequest, type Route } from 'service/route'
import { z } from 'zod'
import type { Answer } from './answer.ts'
import type { CommandRequest, Unit } from './batch.ts'
import { accountsOf, type Command } from './commands.ts'
import type { Birth, CommandForm } from './form.ts'
import { answerText } from './operations.ts'
import { problem } from './problems.ts'
import { commandQuery, fingerprintOf, ifMatch, keyPattern, requireRole } from './requests.ts'
import { decodeToken, encodeToken } from './token.ts'

// Many commands in one request, each with a key of its own and answered by itself. Atomic: all happen,
// or none does. Otherwise each is as if it had been sent alone, and those on one account in order.

export type BatchSettings = {
  forms: readonly CommandForm<Command>[]
  execute: (request: CommandRequest) => Promise<Answer>
  executeTogether: (unit: Unit) => Promise<readonly Answer[]>
  birth: Birth
}

const commandsLimit = 200
const bodyLimitBytes = 256 * 1_024
/** A header must stay a header: beyond so many accounts the token is in the body. */
const headerAccountsLimit = 50

const batchBody = z.strictObject({
  atomic: z.boolean(),
  commands: z
    .array(
      z.looseObject({
        key: z.string().regex(keyPattern, 'must be 1 to 255 visible ASCII characters'),
        command: z.string(),
        ifMatch: z.string().optional(),
      }),
    )
    .min(1)
    .max(commandsLimit),
})

type Item = z.output<typeof batchBody>['commands'][number]

export function batchRoute(settings: BatchSettings): Route {
  return {
    method: 'POST',
    path: '/batches',
    bodyLimitBytes,
    async handle(request) {
      const { atomic, commands } = parsePart(batchBody, request.body)
      const dryRun = parsePart(commandQuery, request.query, 'query').dryRun === 'true'
      refuseRepeatedKeys(commands)
      const unit = readItems(settings, request, { atomic, commands, dryRun })
      if (!atomic) return batchAnswer(commands, await inOrder(unit, settings.execute))
      const answers = await settings.executeTogether(unit)
      const culprit = answers.findIndex(({ status, body }) => status >= 400 && !isBystander(body))
      if (answers.every(({ status }) => status < 400)) return batchAnswer(commands, answers)
      return refusedBatch(request, commands, { answers, culprit })
    },
  }
}

function refuseRepeatedKeys(items: readonly Item[]): void {
  const errors = items.flatMap(({ key }, index) =>
    items.findIndex((other) => other.key === key) === index
      ? []
      : [{ pointer: `/commands/${index}/key`, message: 'is the key of another command too' }],
  )
  if (errors.length > 0) throw httpProblem('invalid_request', { errors })
}

function readItems(
  { forms, birth }: BatchSettings,
  request: ApiRequest,
  { atomic, commands, dryRun }: { atomic: boolean; commands: readonly Item[]; dryRun: boolean },
): CommandRequest[] {
  const read = commands.map((item, index) =>
    within(index, () => readItem(forms, request, item, birth)),
  )
  const whole = atomic ? JSON.stringify(read.map(({ text }) => text)) : ''
  return read.map(({ item, text, command, versions }) => ({
    caller: request.caller.name,
    key: item.key,
    fingerprint: fingerprintOf(`POST\n/batches\n${text}\n${whole}`),
    commandId: birth.newId(),
    command,
    ifMatch: versions,
    trace: request.trace,
    dryRun,
  }))
}

function readItem(
  forms: readonly CommandForm<Command>[],
  request: ApiRequest,
  item: Item,
  birth: Birth,
) {
  const { key: _, command: name, ifMatch: version, ...fields } = item
  const form = forms.find((each) => each.name === name)
  if (form === undefined) {
    const errors = [{ pointer: '/command', message: 'is not a command' }]
    throw httpProblem('invalid_request', { errors })
  }
  requireRole(form, request)
  const inPath = (field: string) => Object.hasOwn(form.params.shape, field)
  const part = (ours: boolean) =>
    Object.fromEntries(Object.entries(fields).filter(([field]) => inPath(field) === ours))
  const { command, said } = form.read({ params: part(true), body: part(false) }, birth)
  const text = JSON.stringify([name, part(true), said])
  return { item, text, command, versions: ifMatch(form, version) }
}

/** Makes the pointers of what was wrong with one command those of the batch. */
function within<T>(index: number, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    const { errors, detail } = error.details
    const faults = errors ?? [{ pointer: '', message: detail ?? error.kind.title }]
    const pointed = faults.map(({ pointer, message }) => ({
      pointer: `/commands/${index}${pointer.replace(/^path/, '').replace(/^If-Match$/, '/ifMatch')}`,
      message,
    }))
    throw new Problem(error.code, error.kind, { ...error.details, errors: pointed })
  }
}

/**
 * A command starts when those before it on its accounts are answered. One that names none (it finds
 * them by a transaction) waits for all before it, and all after it wait for it.
 */
async function inOrder(
  requests: readonly CommandRequest[],
  execute: BatchSettings['execute'],
): Promise<Answer[]> {
  const last = new Map<string, Promise<unknown>>()
  const all: Promise<Answer>[] = []
  let barrier: Promise<unknown> = Promise.resolve()
  for (const request of requests) {
    const accounts = accountsOf(request.command)
    const before = accounts.length === 0 ? [...all] : accounts.map((id) => last.get(id))
    const answer = Promise.allSettled([barrier, ...before]).then(() => execute(request))
    all.push(answer)
    if (accounts.length === 0) barrier = answer
    for (const id of accounts) last.set(id, answer)
  }
  return Promise.all(all)
}

function batchAnswer(items: readonly Item[], answers: readonly Answer[]): ApiAnswer {
  const versions = new Map<string, number>()
  for (const { token } of answers) {
    for (const [id, version] of (token === null ? undefined : decodeToken(token)) ?? []) {
      versions.set(id, Math.max(version, versions.get(id) ?? 0))
    }
  }
  const token = versions.size === 0 ? null : encodeToken(versions)
  const inHeader = token !== null && versions.size <= headerAccountsLimit
  const tail = token === null || inHeader ? '' : `,"token":${JSON.stringify(token)}`
  return {
    status: 200,
    text: `{"items":${itemsText(items, answers)}${tail}}`,
    headers: {
      ...(inHeader ? { 'Consistency-Token': token } : {}),
      ...(answers.every(({ replayed }) => replayed) ? { 'Idempotent-Replayed': 'true' } : {}),
    },
  }
}

function itemsText(items: readonly Item[], answers: readonly Answer[]): string {
  const texts = answers.map((answer, index) => {
    const { replayed } = answer
    const head = JSON.stringify({ key: items[index]?.key, replayed }).slice(0, -1)
    return `${head},${answerText(answer).slice(1)}`
  })
  return `[${texts.join()}]`
}

const isBystander = (body: string) => JSON.parse(body).code === 'batch_not_applied'

/** As the command that was refused, or that has to come again; the answers of all beside it. */
function refusedBatch(
  request: ApiRequest,
  items: readonly Item[],
  { answers, culprit }: { answers: readonly Answer[]; culprit: number },
): ApiAnswer {
  const answer = answers[culprit]
  const passing = answer?.retryAfterSeconds
  if (answer !== undefined && passing !== undefined) {
    const headers = { 'Retry-After': String(passing) }
    return { status: answer.status, text: answer.body, contentType: problemType, headers }
  }
  const code = answer === undefined ? '' : String(JSON.parse(answer.body).code)
  const refusal = problem('batch_refused', {
    errors: [{ pointer: `/commands/${culprit}`, message: code }],
  })
  const head = JSON.stringify(refusal.body(request.trace.traceId)).slice(0, -1)
  return {
    status: refusal.kind.status,
    text: `${head},"items":${itemsText(items, answers)}}`,
    contentType: problemType,
    headers: answers.every(({ replayed }) => replayed) ? { 'Idempotent-Replayed': 'true' } : {},
  }
}

const problemType = 'application/problem+json'
