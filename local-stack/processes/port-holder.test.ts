import { createServer } from 'node:net'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { listeningInodes, lsofHolder, portHolder } from './port-holder.ts'
import { findFreePorts, requireFreePorts } from './ports.ts'

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:71A4 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 x
   1: 0100007F:71A4 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 5678 1 x
   2: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9012 1 x
`

test('only the listening socket of the port counts', () => {
  expect(listeningInodes(table, 29_092)).toEqual(['1234'])
  expect(listeningInodes(table, 8_080)).toEqual(['9012'])
  expect(listeningInodes(table, 1)).toEqual([])
})

test('lsof names pid and command', () => {
  expect(lsofHolder('p812\ncjava\nf12\n')).toEqual({ pid: 812, command: 'java' })
  expect(lsofHolder('')).toBeUndefined()
})

test('every taken port is named with its holder and the variable that moves ours', async () => {
  const [free = 0] = await findFreePorts(1)
  const servers = [createServer(), createServer()]
  const ports: number[] = []
  for (const server of servers) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    ports.push((server.address() as { port: number }).port)
  }
  try {
    const use = (port: number, variable: string) => ({
      port,
      variable,
      host: '127.0.0.1',
      what: 'something',
    })
    const uses = [use(ports[0] ?? 0, 'A_PORT'), use(free, 'B_PORT'), use(ports[1] ?? 0, 'C_PORT')]
    const refusal = await requireFreePorts(uses).catch((error: Error) => error)
    expect(refusal).toMatchObject({ code: 'ports_taken' })
    const lines = (refusal as Error).message.split('\n')
    expect(lines).toHaveLength(2)
    expect(lines[0]).toContain(`port ${ports[0]} `)
    expect(lines[0]).toContain('set A_PORT')
    expect(lines[1]).toContain('set C_PORT')
    expect(portHolder(ports[0] ?? 0)).toContain(`pid ${process.pid} `)
  } finally {
    servers.forEach((server) => server.close())
  }
})

test('a port held on every address is taken on loopback too', async () => {
  const server = createServer().listen(0, '0.0.0.0')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const use = { port, host: '127.0.0.1', what: 'x', variable: 'X_PORT' }
  await expect(requireFreePorts([use])).rejects.toMatchObject({ code: 'ports_taken' })
  server.close()
})
