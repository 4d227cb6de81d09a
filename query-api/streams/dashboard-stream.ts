import { pause } from 'service/backoff'
import { parsePart, type Route } from 'service/route'
import { databaseFault } from '../database-fault.ts'
import { type Dashboard, dashboardVersions, readDashboard } from '../projections/dashboard-reads.ts'
import { noQuery, readRoute, type ReadSettings } from '../reading.ts'
import { commentText, EventStreams, eventText, heartbeatMs, lastEventId } from './event-stream.ts'

// The dashboard, live: whole each time, at most once a second, and only when it is another. So
// whoever comes back has missed nothing that still holds. All streams of a process share one look
// at it.

const intervalMs = 1_000

export type DashboardStreamSettings = ReadSettings & { streams: EventStreams }

export function dashboardStreamRoutes(settings: DashboardStreamSettings): Route[] {
  const look = sharedWithin(intervalMs / 2, () => readDashboard(settings.reader))
  const freshness = settings.freshnessOf(dashboardVersions)
  return [
    readRoute(freshness, '/dashboard/stream', (request) => {
      parsePart(noQuery, request.query, 'query')
      lastEventId(request)
      return async () => settings.streams.answer(request, (signal) => follow(look, signal))
    }),
  ]
}

async function* follow(
  look: () => Promise<Dashboard>,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let shown = ''
  let saidAtMs = performance.now()
  while (!signal.aborted) {
    const dashboard = await orUndefined(look)
    const face = dashboard === undefined ? shown : faceOf(dashboard)
    if (dashboard !== undefined && face !== shown) {
      const data = JSON.stringify(dashboard)
      yield eventText({ name: 'dashboard', id: dashboard.version, data })
      shown = face
      saidAtMs = performance.now()
    } else if (performance.now() - saidAtMs >= heartbeatMs) {
      yield commentText(dashboard === undefined ? 'the database is away' : 'nothing new')
      saidAtMs = performance.now()
    }
    await pause(intervalMs, signal)
  }
}

/** Everything but when the series begin, which is always new. */
function faceOf(dashboard: Dashboard): string {
  return JSON.stringify(dashboard, (name, value: unknown) =>
    name === 'seconds' || name === 'minutes' ? (value as { counts: number[] }).counts : value,
  )
}

async function orUndefined(look: () => Promise<Dashboard>): Promise<Dashboard | undefined> {
  try {
    return await look()
  } catch (error) {
    if (databaseFault(error) === 'passing') return undefined
    throw error
  }
}

/** Asks at most once in so many milliseconds; whoever comes in between gets the same answer. */
function sharedWithin<T>(ms: number, ask: () => Promise<T>): () => Promise<T> {
  let askedAtMs = -Infinity
  let answer: Promise<T>
  return () => {
    if (performance.now() - askedAtMs < ms) return answer
    askedAtMs = performance.now()
    answer = ask()
    return answer
  }
}
