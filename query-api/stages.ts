/** Where the stages before Kafka answer, as far as it is known. */
export type StageUrls = { 'command-api': string | undefined; 'outbox-relay': string | undefined }

const timeoutMs = 1_000

/** A sentence for each stage that does not answer or says that it is not ready. */
export async function lateStages(stages: StageUrls): Promise<string[]> {
  const answers = await Promise.all(
    Object.entries(stages).map(([name, url]) => lateStage(name, url)),
  )
  return answers.filter((answer) => answer !== undefined)
}

async function lateStage(name: string, url: string | undefined): Promise<string | undefined> {
  if (url === undefined) return undefined
  try {
    const response = await fetch(new URL('/readyz', url), {
      signal: AbortSignal.timeout(timeoutMs),
    })
    await response.body?.cancel()
    return response.ok ? undefined : `${name} says that it is not ready (${response.status})`
  } catch {
    return `${name} does not answer`
  }
}
