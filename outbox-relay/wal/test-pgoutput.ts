// Messages of pgoutput, made by hand as the documentation has them.

const int = (bytes: 2 | 4, value: number) => {
  const buffer = Buffer.alloc(bytes)
  buffer.writeIntBE(value, 0, bytes)
  return buffer
}
const long = (value: bigint) => {
  const buffer = Buffer.alloc(8)
  buffer.writeBigUInt64BE(value)
  return buffer
}
const text = (value: string) => Buffer.from(`${value}\0`)
const message = (type: string, ...parts: readonly Buffer[]) =>
  Buffer.concat([Buffer.from(type), ...parts])

export const begin = () => message('B', long(200n), long(0n), int(4, 7))
export const commit = (end: bigint) =>
  message('C', Buffer.from([0]), long(end - 8n), long(end), long(0n))

export function relation(columns: readonly string[], oid = 16_400): Buffer {
  const described = columns.map((column) =>
    Buffer.concat([Buffer.from([0]), text(column), int(4, 25), int(4, -1)]),
  )
  const head = [int(4, oid), text('outbox'), text('events'), Buffer.from('d')]
  return message('R', ...head, int(2, columns.length), ...described)
}

/** `null` is a null, `undefined` a value that was stored elsewhere and did not change. */
export function insert(values: readonly (string | null | undefined)[], oid = 16_400): Buffer {
  const cells = values.map((value) => {
    if (value === null) return Buffer.from('n')
    if (value === undefined) return Buffer.from('u')
    const bytes = Buffer.from(value)
    return Buffer.concat([Buffer.from('t'), int(4, bytes.length), bytes])
  })
  return message('I', int(4, oid), Buffer.from('N'), int(2, values.length), ...cells)
}

/** The columns of outbox.events in the table's own order, which is not that of the wire's row. */
export const tableColumns = [
  'position',
  'id',
  'aggregatetype',
  'aggregateid',
  'aggregateversion',
  'type',
  'payload',
  'source',
  'specversion',
  'traceparent',
  'correlationid',
  'causationid',
  'occurred_at',
]
