import { connect } from 'node:net'

// ApiVersions, version 0: the one request that every broker answers to anybody. Size, api key 18,
// version 0, correlation id 1, no client id.
const request = Buffer.from([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff])

/**
 * Does a broker serve requests here? An open port is not enough: it opens before the broker does its
 * work, and a proxy's port is open without any.
 */
export function brokerAnswers(
  port: number,
  host = '127.0.0.1',
  timeoutMs = 1_000,
): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host })
    let received = Buffer.alloc(0)
    const done = (answers: boolean) => {
      socket.destroy()
      resolve(answers)
    }
    socket.setTimeout(timeoutMs, () => done(false))
    socket.once('error', () => done(false))
    socket.once('close', () => done(false))
    socket.once('connect', () => socket.write(request))
    socket.on('data', (bytes) => {
      received = Buffer.concat([received, bytes])
      // Size, correlation id, error code.
      if (received.length >= 10)
        done(received.readInt32BE(4) === 1 && received.readInt16BE(8) === 0)
    })
  })
}
