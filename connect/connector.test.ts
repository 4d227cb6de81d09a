import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { encode } from 'outbox-relay/wire'
import { describe, expect, onTestFinished, test } from 'vitest'
import {
  connectAnswers,
  connectorConfiguration,
  createStopped,
  listConnectors,
  patchOffsets,
  remove,
  status,
} from './connector.ts'

const settings = {
  databaseUrl: 'postgres://sluice_cdc:secret@db.example:6432/sluice_write',
  slotName: 'sluice_7',
  connectorName: 'sluice-outbox-7',
}
const configured = (databaseUrl: string) => connectorConfiguration({ ...settings, databaseUrl })

describe('the configuration', () => {
  test('has no placeholder left', () => {
    const values = Object.values(connectorConfiguration(settings))
    expect(values.filter((value) => /<[A-Z_]+>/.test(value))).toEqual([])
    expect(connectorConfiguration(settings)).toMatchObject({
      name: 'sluice-outbox-7',
      'slot.name': 'sluice_7',
      'database.hostname': 'db.example',
      'database.port': '6432',
      'database.user': 'sluice_cdc',
      'database.password': 'secret',
      'database.dbname': 'sluice_write',
      'database.sslmode': 'prefer',
    })
  })

  test('places the headers of the wire contract, in its order', () => {
    const configuration = connectorConfiguration(settings)
    const placed = configuration['transforms.outbox.table.fields.additional.placement']
    const names = placed?.split(',').map((field) => field.split(':')[2])
    const row = Array.from({ length: 13 }, () => 'x') as unknown as Parameters<typeof encode>[0]
    const contract = encode(row).headers.map(([name]) => name)
    const last = configuration['transforms.contentType.header']
    expect(['id', ...(names ?? []), last]).toEqual(contract)
  })

  test('takes from a URL what is escaped in it, whatever it looks like', () => {
    const password = 'p@ss/w:rd %<SLOT_NAME>${x}'
    const url = `postgres://u%40x:${encodeURIComponent(password)}@[::1]/d%20b`
    expect(configured(url)).toMatchObject({
      'database.user': 'u@x',
      'database.password': password,
      'database.hostname': '[::1]',
      'database.port': '5432',
      'database.dbname': 'd b',
    })
  })

  test('asks for the encryption that the URL asks for', () => {
    const mode = (query: string) =>
      configured(`${settings.databaseUrl}?${query}`)['database.sslmode']
    expect(mode('sslmode=disable')).toBe('disable')
    expect(mode('sslmode=verify-full')).toBe('verify-full')
    expect(mode('sslmode=no-verify')).toBe('require')
    expect(() => mode('sslmode=constructor')).toThrow(/sslmode must be one of/)
    const files = configured(`${settings.databaseUrl}?sslmode=verify-ca&sslrootcert=/ca.pem`)
    expect(files['database.sslrootcert']).toBe('/ca.pem')
    expect(files).not.toHaveProperty('database.sslkey')
  })

  test('leaves batch sizes and waits to Debezium where asked', () => {
    const defaults = connectorConfiguration({ ...settings, tuning: 'debezium-defaults' })
    const ours = connectorConfiguration(settings)
    expect(Object.keys(ours).filter((name) => !(name in defaults))).toEqual([
      'max.batch.size',
      'max.queue.size',
      'poll.interval.ms',
      'producer.override.batch.size',
      'producer.override.linger.ms',
    ])
  })

  test.each([
    { databaseUrl: 'mysql://u:secret@h/d' },
    { databaseUrl: 'postgres://u:secret%ZZ@h/d' },
    { databaseUrl: 'postgres://u:secret@h' },
    { databaseUrl: 'secret' },
    { databaseUrl: 'postgres://u:secret@h/d?sslmode=maybe' },
    { slotName: "x'; drop table outbox.events" },
    { slotName: 'Upper' },
    { connectorName: '../x' },
    { connectorName: '' },
  ])('of %o is refused, and the refusal holds no password', (wrong) => {
    let refusal: unknown
    try {
      connectorConfiguration({ ...settings, ...wrong })
    } catch (error) {
      refusal = error
    }
    expect(refusal).toMatchObject({ code: 'connector_settings_invalid' })
    expect(inspect(refusal)).not.toContain('secret')
  })

  test('stands in the file as text that Connect takes as it is', () => {
    const file = readFileSync(new URL('./outbox-connector.json', import.meta.url), 'utf8')
    const values = Object.values(JSON.parse(file) as Record<string, unknown>)
    expect(values.every((value) => typeof value === 'string')).toBe(true)
  })
})

type Answer = { status: number; body?: string }

/** Something that answers as `answer` says, or not at all, and keeps what it was asked. */
async function server(answer: (request: IncomingMessage, body: string) => Answer | undefined) {
  const asked: string[] = []
  const listener = async (request: IncomingMessage, response: ServerResponse) => {
    const body = Buffer.concat(await request.toArray()).toString()
    asked.push(`${request.method} ${request.url}`)
    const said = answer(request, body)
    if (said !== undefined) response.writeHead(said.status).end(said.body ?? '')
  }
  const http = createServer((request, response) => void listener(request, response))
  await once(http.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => {
    http.closeAllConnections()
    http.close()
  })
  const { port } = http.address() as AddressInfo
  return { asked, connect: { url: `http://127.0.0.1:${port}` } }
}

const said = (message: string) => JSON.stringify({ error_code: 0, message })

describe('a request', () => {
  test('is sent again while workers are being reassigned', async () => {
    let refusals = 3
    const { asked, connect } = await server(() =>
      refusals-- > 0
        ? { status: 409, body: said('Cannot complete request because of a conflicting operation') }
        : { status: 200, body: '["b","a","x"]' },
    )
    expect(await listConnectors(connect, '')).toEqual(['a', 'b', 'x'])
    expect(asked).toHaveLength(4)
  })

  test('that is refused says why, without the password that Connect repeats', async () => {
    const { connect } = await server((_, body) => ({ status: 400, body: said(`invalid: ${body}`) }))
    const refusal = await createStopped(connect, connectorConfiguration(settings)).catch(
      (error: unknown) => error,
    )
    expect(refusal).toMatchObject({ code: 'connect_refused' })
    expect(inspect(refusal)).toContain('invalid: {')
    expect(inspect(refusal)).not.toContain('secret')
  })

  test.each([
    [{ status: 500, body: said('broken') }, 'connect_failed'],
    [{ status: 200, body: '<html>' }, 'connect_answer_malformed'],
    [{ status: 200, body: '{"name":"x","connector":{"state":"NEW"}}' }, 'connect_answer_malformed'],
  ])('answered by %o fails with %s', async (answer, code) => {
    const { connect } = await server(() => answer)
    await expect(status(connect, 'x')).rejects.toMatchObject({ code })
  })

  test('that nobody answers fails, and a stop ends the wait for an answer', async () => {
    const { connect } = await server(() => undefined)
    const signal = AbortSignal.abort(new Error('stopped'))
    await expect(status({ ...connect, signal }, 'x')).rejects.toThrow('stopped')
    expect(await connectAnswers(connect)).toBe(false)
    const nobody = { url: 'http://127.0.0.1:1' }
    await expect(status(nobody, 'x')).rejects.toMatchObject({ code: 'connect_unreachable' })
    expect(await connectAnswers(nobody)).toBe(false)
  })

  test('carries the user of the address, whose password no error repeats', async () => {
    let authorization: string | undefined
    const { connect } = await server((request) => {
      authorization = request.headers.authorization
      return { status: 401, body: 'who are you' }
    })
    const url = connect.url.replace('http://', 'http://me:pass%20word@')
    const refusal = await status({ url }, 'x').catch((error: unknown) => error)
    expect(authorization).toBe(`Basic ${btoa('me:pass word')}`)
    expect(inspect(refusal)).not.toMatch(/pass|bWU6/)
  })

  test('for a name that is no plain word is never sent', async () => {
    const { asked, connect } = await server(() => ({ status: 200 }))
    const refusal = { code: 'connector_settings_invalid' }
    await expect(remove(connect, '../offsets')).rejects.toMatchObject(refusal)
    await expect(patchOffsets(connect, 'x', '12')).rejects.toMatchObject(refusal)
    expect(asked).toEqual([])
  })

  test('sets a position above 2^53 to the last digit', async () => {
    let patched = ''
    const { asked, connect } = await server((request, body) => {
      if (request.method === 'PATCH') patched = body
      return { status: 200, body: '{}' }
    })
    await patchOffsets(connect, 'x', 'FFFFFFFF/FFFFFFFE')
    const lsn = '18446744073709551614'
    expect(patched).toBe(
      `{"offsets":[{"partition":{"server":"sluice"},` +
        `"offset":{"lsn":${lsn},"lsn_proc":${lsn},"lsn_commit":${lsn}}}]}`,
    )
    expect(asked).toEqual(['DELETE /connectors/x/offsets', 'PATCH /connectors/x/offsets'])
  })
})

test('a failed task says the innermost cause, on one line', async () => {
  const trace =
    'org.apache.X: failed\n\tat a\nCaused by: java.io.Y: middle\n\tat b\nCaused by: Z: end\n\tat c\n'
  const part = { state: 'FAILED', worker_id: 'w:1', trace }
  const body = JSON.stringify({ name: 'x', connector: part, tasks: [{ id: 0, ...part }] })
  const { connect } = await server(() => ({ status: 200, body }))
  const failed = { state: 'FAILED', worker: 'w:1', failure: 'Caused by: Z: end' }
  expect(await status(connect, 'x')).toEqual({ connector: failed, tasks: [{ id: 0, ...failed }] })
})
