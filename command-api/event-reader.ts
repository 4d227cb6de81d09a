import assert from 'node:assert/strict'
import type { z } from 'zod'

// The one place where a reader meets an older version of an event: it is read as the schema of its own
// version says, then taken up version by version to the newest, which is all that other code knows.

/** By the older type: its payload as the next version would have had it. Pure, and total. */
export type Upcasters = Readonly<Record<string, (payload: never) => unknown>>

/** An event that this version of the code cannot read: its consumer must stop, not guess. */
export class EventUnreadable extends Error {
  readonly code: 'unknown_event_type' | 'event_malformed'

  constructor(code: EventUnreadable['code'], message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'EventUnreadable'
    this.code = code
  }
}

/**
 * Reads a stored event, given as its type and JSON text, as its newest version. The reader throws
 * EventUnreadable. Every version but the newest of its name needs an upcaster, and no other has one.
 */
export function eventReader(schemas: Readonly<Record<string, z.ZodType>>, upcasters: Upcasters) {
  for (const type of new Set([...Object.keys(schemas), ...Object.keys(upcasters)])) {
    const next = Object.hasOwn(schemas, nextVersion(type))
    assert.equal(Object.hasOwn(upcasters, type), next, `${type} has an upcaster if there is a next`)
  }
  return (type: string, text: string): { type: string; payload: unknown } => {
    const schema = Object.hasOwn(schemas, type) ? schemas[type] : undefined
    if (schema === undefined) {
      throw new EventUnreadable('unknown_event_type', `no schema for the event type ${type}`)
    }
    try {
      let event = { type, payload: schema.parse(JSON.parse(text)) }
      for (let up = upcasters[type]; up !== undefined; up = upcasters[event.type]) {
        const next = nextVersion(event.type)
        event = { type: next, payload: schemas[next]?.parse(up(event.payload as never)) }
      }
      return event
    } catch (error) {
      throw new EventUnreadable('event_malformed', `${type} is not as its schema says`, error)
    }
  }
}

/** `FundsDeposited.v2` of `FundsDeposited.v1`. */
function nextVersion(type: string): string {
  const [, name, version] = /^([A-Za-z]+)\.v([1-9]\d*)$/.exec(type) ?? []
  assert(name !== undefined, `${type} is no name and version`)
  return `${name}.v${Number(version) + 1}`
}
