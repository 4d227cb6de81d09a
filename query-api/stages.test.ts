import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { lateStages } from './stages.ts'

type Answers = Record<string, { status: number; text: string }>

/** What answers like a service: each path its own way, any other not at all. */
async function stage(answers: Answers): Promise<string> {
  const server = createServer((request, response) => {
    const answer = answers[request.url ?? '']
    if (answer === undefined) return
    response.statusCode = answer.status
    response.end(answer.text)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const ready = { status: 200, text: '{"ready":true,"late":[]}' }
const oldest = (seconds: number) => ({
  status: 200,
  text: `# TYPE x gauge\nsluice_relay_oldest_unpublished_seconds{service="outbox-relay"} ${seconds}\n`,
})
const nowhere = { 'command-api': undefined, 'outbox-relay': undefined }

test('stages that are ready and pass everything on are not named, nor those unknown', async () => {
  const commandApi = await stage({ '/readyz': ready })
  const relay = await stage({ '/readyz': ready, '/metrics': oldest(0.2) })
  expect(await lateStages({ 'command-api': commandApi, 'outbox-relay': relay })).toEqual([])
  expect(await lateStages(nowhere)).toEqual([])
})

test('a stage that is not ready is named with what it says itself', async () => {
  const late = ['the write database does not answer: connect ECONNREFUSED']
  const text = JSON.stringify({ ready: false, late })
  const commandApi = await stage({ '/readyz': { status: 503, text } })
  expect(await lateStages({ ...nowhere, 'command-api': commandApi })).toEqual([
    `command-api: ${late[0]}`,
  ])
})

test('a relay that is ready and publishes nothing is named, with the age of what waits', async () => {
  const relay = await stage({ '/readyz': ready, '/metrics': oldest(14.4) })
  expect(await lateStages({ ...nowhere, 'outbox-relay': relay })).toEqual([
    'outbox-relay has not got into Kafka what is 14 s old',
  ])
})

test('a stage that takes a connection and says nothing does not answer', async () => {
  const silent = await stage({})
  expect(await lateStages({ 'command-api': silent, 'outbox-relay': silent })).toEqual([
    'command-api does not answer',
    'outbox-relay does not answer',
  ])
})
