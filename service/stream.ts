import type { ServerResponse } from 'node:http'

/**
 * Sends pieces as they come, until they end or the reader hangs up. Nothing is taken from them
 * while the reader has not read what was sent, so that one piece is all that waits for it; a reader
 * that takes nothing for `stallMs` is cut. Throws what the pieces throw.
 */
export async function sendStream(
  response: ServerResponse,
  pieces: AsyncIterable<string>,
  stallMs: number,
): Promise<void> {
  response.flushHeaders()
  for await (const piece of pieces) {
    // HEAD asks for none of it.
    if (response.destroyed || response.req.method === 'HEAD') break
    if (response.write(piece) || (await isRead(response, stallMs))) continue
    response.destroy()
    break
  }
  response.end()
}

function isRead(response: ServerResponse, stallMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const settle = (read: boolean) => {
      clearTimeout(timer)
      response.off('drain', onDrain)
      response.off('close', onClose)
      resolve(read)
    }
    const onDrain = () => settle(true)
    const onClose = () => settle(false)
    const timer = setTimeout(onClose, stallMs)
    response.once('drain', onDrain)
    response.once('close', onClose)
  })
}
