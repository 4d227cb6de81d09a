import { connect, createServer } from 'node:net'
import { StackError } from '../errors.ts'
import { portHolder } from './port-holder.ts'

export type PortUse = { port: number; host: string; what: string; variable: string }

/**
 * Throws `ports_taken` unless every port can be listened on, naming for each one that cannot who
 * has it, as far as the system tells, and the variable that moves ours.
 */
export async function requireFreePorts(uses: PortUse[]): Promise<void> {
  const taken: string[] = []
  for (const { port, host, what, variable } of uses) {
    const reason = await whyUnusable(port, host)
    if (reason === undefined) continue
    const why =
      reason === 'taken' ? `is taken by ${portHolder(port)}` : `cannot be used (${reason})`
    taken.push(`port ${port} for ${what} ${why}: free it, or set ${variable} to another port`)
  }
  if (taken.length > 0) throw new StackError('ports_taken', taken.join('\n'))
}

// Below the range from which systems draw the local ports of clients: such a connection, open or
// just ended, would keep a server that comes back from its port.
const drawnFrom = { lowest: 15_000, count: 15_000 }

/** `count` ports of the loopback that nobody uses at this moment, each another. */
export async function findFreePorts(count: number, random = Math.random): Promise<number[]> {
  const found = new Set<number>()
  for (let tries = 0; found.size < count && tries < 1_000; tries++) {
    const port = drawnFrom.lowest + Math.floor(random() * drawnFrom.count)
    if (!found.has(port) && (await whyUnusable(port, '127.0.0.1')) === undefined) found.add(port)
  }
  if (found.size === count) return [...found]
  throw new StackError('ports_taken', `no ${count} ports are free from ${drawnFrom.lowest} on`)
}

async function whyUnusable(port: number, host: string): Promise<string | undefined> {
  try {
    const server = await listen(port, host)
    await new Promise((resolve) => server.close(resolve))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return code === 'EADDRINUSE' ? 'taken' : (code ?? message)
  }
  // macOS lets one listen on 127.0.0.1 beside somebody who listens on every address.
  return (await accepts(port)) ? 'taken' : undefined
}

function listen(port: number, host: string) {
  return new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ port, host, exclusive: true }, () => resolve(server))
  })
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    const done = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(500, () => done(false))
    socket.once('connect', () => done(true))
    socket.once('error', () => done(false))
  })
}
