import { httpProblem } from 'service/problem'
import type { ApiAnswer, ApiRequest } from 'service/route'
import { problem } from '../problems.ts'

// Server-sent events: how a stream is written, and how many may be open. Whoever loses one comes
// back with the id of the last event that arrived, to this process or another.

/** A silent stream says this often that it is there; proxies close what is silent for a minute. */
export const heartbeatMs = 15_000
const defaultLimit = 256
const retryMs = 2_000

/** One event; `data` is JSON text, which has no line breaks. */
export function eventText(event: { name: string; id: number; data: string }): string {
  return `id: ${event.id}\nevent: ${event.name}\ndata: ${event.data}\n\n`
}

/**
 * What readers ignore: it shows that the stream lives, and makes it notice a reader that is gone.
 */
export function commentText(comment: string): string {
  return `: ${comment}\n\n`
}

/** The version after which the caller's last stream ended, if it says so. */
export function lastEventId(request: ApiRequest): number | undefined {
  const text = request.header('Last-Event-ID')
  if (text === undefined || text === '') return undefined
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw httpProblem('invalid_header', {
    errors: [{ pointer: 'Last-Event-ID', message: 'must be the id of an event of this stream' }],
  })
}

/** What a stream sends; it ends soon after its signal aborts. */
export type Pieces = (signal: AbortSignal) => AsyncIterable<string>

export class EventStreams {
  readonly #stop: AbortSignal
  readonly #limit: number
  #open = 0

  /** All streams end when `signal` aborts. */
  constructor({ signal, limit = defaultLimit }: { signal: AbortSignal; limit?: number }) {
    this.#stop = signal
    this.#limit = limit
  }

  get open(): number {
    return this.#open
  }

  /** Throws `too_many_streams`. */
  answer(request: ApiRequest, pieces: Pieces): ApiAnswer {
    if (this.#open >= this.#limit) {
      throw problem('too_many_streams', { headers: { 'Retry-After': '5' } })
    }
    this.#open += 1
    return {
      status: 200,
      contentType: 'text/event-stream',
      // Some proxies hold an answer back until it is whole.
      headers: { 'X-Accel-Buffering': 'no' },
      stream: this.#counted(request.signal, pieces),
    }
  }

  async *#counted(hangUp: AbortSignal, pieces: Pieces): AsyncGenerator<string> {
    const end = new AbortController()
    const abort = () => end.abort()
    const signals = [hangUp, this.#stop]
    for (const signal of signals) signal.addEventListener('abort', abort, { once: true })
    if (signals.some(({ aborted }) => aborted)) abort()
    try {
      yield `retry: ${retryMs}\n\n`
      yield* pieces(end.signal)
    } finally {
      this.#open -= 1
      end.abort()
      for (const signal of signals) signal.removeEventListener('abort', abort)
    }
  }
}
