import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openToAll } from './access.ts'
import { type HttpService, serveHttp } from './http.ts'
import { openLog } from './log.ts'
import { openMetrics } from './metrics.ts'

let http: HttpService

beforeAll(async () => {
  http = await serveHttp({
    host: '127.0.0.1',
    port: 0,
    access: openToAll,
    readiness: async () => [],
    log: openLog('test', 'fatal'),
    metrics: openMetrics('test'),
    routes: [
      {
        method: 'POST',
        path: '/echo',
        handle: ({ body }) => ({ status: 200, body: { body: body ?? 'none' } }),
      },
    ],
  })
})
afterAll(() => http[Symbol.asyncDispose]())

async function send(path: string, init: RequestInit) {
  const response = await fetch(http.url + path, init)
  const json = (await response.json()) as { code?: string }
  return { status: response.status, headers: response.headers, json }
}

const echo = (body: string | Uint8Array<ArrayBuffer>, contentType = 'application/json') =>
  send('/echo', { method: 'POST', headers: { 'content-type': contentType }, body })

describe('health', () => {
  test.each(['/livez', '/readyz', '/metrics'])(
    '%s answers whatever else the request says',
    async (path) => {
      const socket = connect(http.port, '127.0.0.1')
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nCorrelation-Id: a b\r\n` +
          'Content-Type: text/plain\r\nContent-Length: 4\r\n\r\n{"a"',
      )
      const chunks: Buffer[] = []
      for await (const chunk of socket) chunks.push(chunk as Buffer)
      const [head = ''] = Buffer.concat(chunks).toString().split('\r\n\r\n')
      expect(head).toMatch(/^HTTP\/1\.1 200 /)
      expect(head).toMatch(/^Correlation-Id: [0-9a-f-]{36}\r?$/m)
    },
  )

  test('keeps a good Correlation-Id', async () => {
    const { headers } = await send('/livez', { headers: { 'correlation-id': 'probe-7' } })
    expect(headers.get('correlation-id')).toBe('probe-7')
  })

  test('is alone in that: another route refuses what it cannot read', async () => {
    const headers = { 'correlation-id': 'a b', 'content-type': 'application/json' }
    const answer = await send('/echo', { method: 'POST', headers, body: '{}' })
    expect([answer.status, answer.json.code]).toEqual([400, 'invalid_header'])
  })
})

describe('a body', () => {
  test('comes to its route as it was sent', async () => {
    const body = { owner: 'Zoë 🙂', list: [1, null, true] }
    expect((await echo(JSON.stringify(body))).json).toEqual({ body })
    expect((await echo('"é"', 'application/json; charset="UTF-8"')).json).toEqual({ body: 'é' })
    expect((await echo('0')).json).toEqual({ body: 0 })
  })

  test('that is empty is none', async () => {
    expect((await echo('')).json).toEqual({ body: 'none' })
    const chunked = new ReadableStream({ start: (controller) => controller.close() })
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: chunked }
    expect((await send('/echo', { ...init, duplex: 'half' })).json).toEqual({ body: 'none' })
  })

  test.each([
    ['that is not UTF-8', Uint8Array.from([0x22, 0xe9, 0x22]), 'application/json'],
    ['that names a member twice', '{"a":1,"a":2}', 'application/json; charset=utf-8'],
    ['that is not JSON', '{"a":', 'application/json'],
  ])('%s is refused', async (_name, body, contentType) => {
    const { status, json } = await echo(body, contentType)
    expect([status, json.code]).toEqual([400, 'malformed_json'])
  })

  test.each([
    'application/json; charset=utf-16le',
    'application/json;charset=latin1',
    'text/plain',
  ])('called %s is refused', async (contentType) => {
    const { status, json } = await echo('{}', contentType)
    expect([status, json.code]).toEqual([415, 'unsupported_media_type'])
  })

  test('beyond the limit is refused', async () => {
    const { status, json } = await echo(JSON.stringify('x'.repeat(65_536)))
    expect([status, json.code]).toEqual([413, 'body_too_large'])
  })
})
