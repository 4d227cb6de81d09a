import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { listConnectors } from 'connect/connector'
import { expect, test } from 'vitest'
import { findFreePorts } from './processes/ports.ts'
import { ensureTestJars } from './test-servers.ts'
import { waitUntil } from './wait-until.ts'

const repository = fileURLToPath(new URL('..', import.meta.url))
const variables = [
  'COMMAND_API_PORT',
  'QUERY_API_PORT',
  'RELAY_PORT',
  'POSTGRES_PORT',
  'KAFKA_PORT',
  'KAFKA_CONTROLLER_PORT',
  'CONNECT_PORT',
]

/** An ephemeral stack on free ports, until `stop`. */
async function started(environment: Record<string, string>) {
  await ensureTestJars()
  const ports = (await findFreePorts(variables.length)).map(String)
  const given = Object.fromEntries(variables.map((name, at) => [name, ports[at]]))
  const start = spawn('npm', ['start', '--', '--ephemeral'], {
    cwd: repository,
    env: { ...process.env, ...given, AUTH: 'off', ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(start, 'exit')
  let output = ''
  start.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const stop = async () => {
    start.kill('SIGINT')
    await exited
    return output
  }
  const ready = () => /Ctrl-C stops everything/.test(output)
  await waitUntil(ready, { what: 'npm start', deadlineMs: 120_000 }).catch(async (error) => {
    await stop()
    throw error
  })
  const relayUrl = `http://127.0.0.1:${ports[2]}/relay`
  return {
    relayUrl,
    connect: { url: `http://127.0.0.1:${ports[6]}` },
    sendsBy: (mode: string) =>
      waitUntil(
        async () => {
          const { source } = (await (await fetch(relayUrl)).json()) as { source: string }
          return source === mode
        },
        { what: `${mode} to send`, deadlineMs: 60_000 },
      ),
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  }
}

const stoppedBeforeKafka =
  /✓ services +stopped[\s\S]*✓ Kafka Connect +stopped[\s\S]*✓ Kafka +stopped/

test('npm start in mode debezium runs Kafka Connect, sends by it, and stops it before Kafka', async () => {
  await using stack = await started({ RELAY_MODE: 'debezium' })
  await stack.sendsBy('debezium')
  expect(await listConnectors(stack.connect, 'sluice-outbox-')).toHaveLength(1)
  expect(await stack.stop()).toMatch(stoppedBeforeKafka)
}, 240_000)

test('beside another mode SLUICE_CONNECT=1 brings Kafka Connect up, and the relay can be switched to it', async () => {
  await using stack = await started({ RELAY_MODE: 'wal', SLUICE_CONNECT: '1' })
  await stack.sendsBy('wal')
  expect(await listConnectors(stack.connect, 'sluice-outbox-')).toEqual([])
  const asked = await fetch(`${stack.relayUrl}/mode`, {
    method: 'PUT',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ mode: 'debezium' }),
  })
  expect(asked.status).toBe(202)
  await stack.sendsBy('debezium')
  expect(await listConnectors(stack.connect, 'sluice-outbox-')).toHaveLength(1)
  expect(await stack.stop()).toMatch(stoppedBeforeKafka)
}, 240_000)
