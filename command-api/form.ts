import { randomUUID } from 'node:crypto'
import { parsePart } from 'service/route'
import type { z } from 'zod'

/** Functions of a command's birth, given so that tests decide them. */
export type Birth = { now: () => Date; newId: () => string }

/** The clock and ids of a running process. */
export const birth: Birth = { now: () => new Date(), newId: randomUUID }

/** How a command looks from outside: its route, its schemas, and how it is read. */
export type CommandForm<Command> = {
  name: string
  method: 'POST' | 'PUT' | 'PATCH'
  /** Its parameters are fields of `params`; elsewhere than in a path they stand beside the body's. */
  path: string
  params: z.ZodObject
  body: z.ZodType
  /** Whether a request must say, may say or cannot say which version it was made for. */
  ifMatch: 'required' | 'optional' | 'none'
  /** The one role that may; everybody when it is not given. */
  role?: 'operator'
  /** `said` is the body as parsed, its fields in the schema's order. Throws `invalid_request`. */
  read(sent: Sent, birth: Birth): { command: Command; said: unknown }
}

type Sent = { params: unknown; body: unknown }

type Written<Params extends z.ZodObject, Body extends z.ZodType, Command> = Omit<
  CommandForm<Command>,
  'read' | 'params' | 'body'
> & {
  params: Params
  body: Body
  command(params: z.output<Params>, body: z.output<Body>, birth: Birth): Command
}

export function form<Params extends z.ZodObject, Body extends z.ZodType, Command>(
  written: Written<Params, Body, Command>,
): CommandForm<Command> {
  const { command, ...rest } = written
  return {
    ...rest,
    read(sent, given) {
      const params = parsePart(written.params, sent.params, 'path')
      const body = parsePart(written.body, sent.body)
      return { command: command(params, body, given), said: body }
    },
  }
}

/** What every command has from its birth: a transaction's id, and when it is recorded. */
export function born({ now, newId }: Birth) {
  return { transactionId: newId(), at: now().toISOString() }
}

/** The optional fields of a movement, as commands carry them. */
export function movementOf(
  body: { reference?: string | undefined; effectiveAt?: string | undefined },
  given: Birth,
) {
  const { transactionId, at } = born(given)
  const effectiveAt = body.effectiveAt === undefined ? at : new Date(body.effectiveAt).toISOString()
  return { transactionId, at, reference: body.reference ?? null, effectiveAt }
}
