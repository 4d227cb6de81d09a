import type { ApiRequest } from 'service/route'
import { expect, test } from 'vitest'
import { commentText, EventStreams, eventText, lastEventId, type Pieces } from './event-stream.ts'

function requestWith(headers: Record<string, string> = {}) {
  const hangUp = new AbortController()
  const header = (name: string) => headers[name]
  return { hangUp, request: { header, signal: hangUp.signal } as unknown as ApiRequest }
}

const untilAborted: Pieces = async function* (signal) {
  for (let piece = 0; !signal.aborted; piece += 1) yield String(piece)
}

async function take(stream: AsyncIterable<string> | undefined, count: number): Promise<string[]> {
  const taken: string[] = []
  for await (const piece of stream!) if (taken.push(piece) === count) break
  return taken
}

test('an event is its id, its name and its data, each on a line, and an empty line', () => {
  expect(eventText({ name: 'change', id: 7, data: '{"a":"b\\n"}' })).toBe(
    'id: 7\nevent: change\ndata: {"a":"b\\n"}\n\n',
  )
  expect(commentText('here')).toBe(': here\n\n')
})

test('Last-Event-ID is the version to go on from, or is refused', () => {
  const idOf = (text: string) => lastEventId(requestWith({ 'Last-Event-ID': text }).request)
  expect([idOf('0'), idOf('12'), idOf('')]).toEqual([0, 12, undefined])
  expect(lastEventId(requestWith().request)).toBe(undefined)
  for (const bad of ['x', '-1', '1.5', '1e3', '1234567890123456']) {
    expect(() => idOf(bad)).toThrow(expect.objectContaining({ code: 'invalid_header' }))
  }
})

test('beyond the limit a stream is refused, until one of the others has ended', async () => {
  const streams = new EventStreams({ signal: new AbortController().signal, limit: 2 })
  const open = () => streams.answer(requestWith().request, untilAborted)
  const [one] = [open(), open()]
  expect(open).toThrow(expect.objectContaining({ code: 'too_many_streams' }))
  expect(await take(one.stream, 3)).toEqual(['retry: 2000\n\n', '0', '1'])
  expect(streams.open).toBe(1)
  expect(open().status).toBe(200)
})

test('a stream ends when its reader hangs up, and all of them when the process stops', async () => {
  const stop = new AbortController()
  const streams = new EventStreams({ signal: stop.signal })
  const { request, hangUp } = requestWith()
  const [left, stopped] = [request, requestWith().request].map((each) =>
    streams.answer(each, untilAborted).stream![Symbol.asyncIterator](),
  )
  for (const each of [left!, stopped!]) expect((await each.next()).done).toBe(false)
  hangUp.abort()
  expect((await left!.next()).done).toBe(true)
  expect((await stopped!.next()).done).toBe(false)
  stop.abort()
  expect((await stopped!.next()).done).toBe(true)
  expect(streams.open).toBe(0)
  const late = streams.answer(requestWith().request, untilAborted)
  expect(await take(late.stream, 9)).toEqual(['retry: 2000\n\n'])
})
