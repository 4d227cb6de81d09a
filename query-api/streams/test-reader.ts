// What tests read streams with: events as they come, like a browser's EventSource.
import { waitUntil } from 'local-stack/wait-until'

export type ReadEvent = { id: string; event: string; data: Record<string, unknown> }

export async function openReader(url: string, headers: Record<string, string> = {}) {
  const left = new AbortController()
  const response = await fetch(url, { headers, signal: left.signal })
  const events: ReadEvent[] = []
  const comments: string[] = []
  let rest = ''
  const reading = (async () => {
    try {
      for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
        const parts = (rest + text).split('\n\n')
        rest = parts.pop()!
        for (const part of parts) take(part, events, comments)
      }
      return 'ended' as const
    } catch {
      return 'cut' as const
    }
  })()
  return {
    response,
    events,
    comments,
    reading,
    /** Waits for so many events in all. */
    async count(wanted: number): Promise<ReadEvent[]> {
      await waitUntil(() => events.length >= wanted, { what: `${wanted} events of the stream` })
      return events
    },
    async [Symbol.asyncDispose]() {
      left.abort()
      await reading
    },
  }
}

function take(part: string, events: ReadEvent[], comments: string[]): void {
  const fields = new Map(
    part.split('\n').map((line) => {
      const at = line.indexOf(': ')
      return [line.slice(0, at), line.slice(at + 2)] as const
    }),
  )
  const [id, event, data] = ['id', 'event', 'data'].map((name) => fields.get(name))
  if (id !== undefined && event !== undefined && data !== undefined) {
    events.push({ id, event, data: JSON.parse(data) as Record<string, unknown> })
  } else if (fields.has('')) comments.push(fields.get('')!)
}
