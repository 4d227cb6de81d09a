import type { Pool } from 'pg'
import type { Log } from 'service/log'
import type { ApiAnswer, Route } from 'service/route'
import type { Answer } from './answer.ts'
import { batchRoute } from './batches.ts'
import { commandForms, type CommandSettings } from './commands.ts'
import type { Executor } from './executor.ts'
import type { Birth } from './form.ts'
import { acceptOperation, operationRoute, type OperationSettings } from './operations.ts'
import { readRequest, wantsNoAnswer } from './requests.ts'

export type CommandRouteSettings = CommandSettings & {
  executor: Executor
  pool: Pool
  birth: Birth
  log: Log
}

/** The commands over REST, and what else is needed to execute those that nobody waits for. */
export function commandRoutes(settings: CommandRouteSettings): {
  routes: Route[]
  operations: OperationSettings
} {
  const { executor, pool, birth, log } = settings
  const forms = commandForms(settings)
  const execute = executor.submit.bind(executor)
  const executeTogether = executor.submitTogether.bind(executor)
  const operations = { pool, forms, execute, birth, log }
  const routes = forms.map((form): Route => ({
    method: form.method,
    path: form.path,
    async handle(request) {
      const { command, asked } = readRequest(form, request, birth)
      if (!command.dryRun && wantsNoAnswer(request)) {
        return acceptOperation(operations, command, asked)
      }
      return httpAnswer(await execute(command))
    },
  }))
  const batches = batchRoute({ forms, execute, executeTogether, birth })
  return { routes: [...routes, batches, operationRoute(pool)], operations }
}

function httpAnswer({ status, body, etag, token, retryAfterSeconds, replayed }: Answer): ApiAnswer {
  return {
    status,
    text: body,
    contentType: status < 400 ? 'application/json' : 'application/problem+json',
    headers: {
      ...(etag === null ? {} : { ETag: etag }),
      ...(token === null ? {} : { 'Consistency-Token': token }),
      ...(retryAfterSeconds === undefined ? {} : { 'Retry-After': String(retryAfterSeconds) }),
      ...(replayed ? { 'Idempotent-Replayed': 'true' } : {}),
    },
  }
}
