import { z } from 'zod'

/** Where the stages before Kafka answer, as far as it is known. */
export type StageUrls = { 'command-api': string | undefined; 'outbox-relay': string | undefined }

/** Longer than they wait for their PostgreSQL themselves: else they had no time to say so. */
const timeoutMs = 2_500
/** Where rows are published as they come, none is ever so old. */
const unpublishedLimitSeconds = 5

/** A sentence for each stage that does not answer, is not ready, or passes nothing on. */
export async function lateStages(stages: StageUrls): Promise<string[]> {
  const { 'command-api': commandApi, 'outbox-relay': relay } = stages
  const answers = await Promise.all([
    commandApi === undefined ? [] : notReady('command-api', commandApi),
    relay === undefined ? [] : lateRelay(relay),
  ])
  return answers.flat()
}

/** A relay that is ready by its own word may still get nothing into Kafka. */
async function lateRelay(url: string): Promise<string[]> {
  const late = await notReady('outbox-relay', url)
  if (late.length > 0) return late
  try {
    const figures = await (await ask(url, '/metrics')).text()
    const found = /^sluice_relay_oldest_unpublished_seconds\S* (\S+)$/m.exec(figures)
    const seconds = Number(found?.[1] ?? 0)
    if (seconds <= unpublishedLimitSeconds) return []
    return [`outbox-relay has not got into Kafka what is ${Math.round(seconds)} s old`]
  } catch {
    return ['outbox-relay does not answer']
  }
}

const readyBody = z.object({ late: z.array(z.string()) })

async function notReady(name: string, url: string): Promise<string[]> {
  try {
    const response = await ask(url, '/readyz')
    const body: unknown = await response.json()
    if (response.ok) return []
    const { data } = readyBody.safeParse(body)
    const said = data?.late ?? [`it is not ready (${response.status})`]
    return said.map((sentence) => `${name}: ${sentence}`)
  } catch {
    return [`${name} does not answer`]
  }
}

function ask(url: string, path: string): Promise<Response> {
  return fetch(new URL(path, url), { signal: AbortSignal.timeout(timeoutMs) })
}
