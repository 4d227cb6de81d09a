export type Checks = {
  readonly passed: number
  readonly failed: number
  heading(text: string): void
  /** Runs one check and prints its line; a failure is printed whole, counted and thrown on. */
  must<T>(title: string, work: () => Promise<T>): Promise<T>
  /** The same, but what follows does not need it: a failure is only printed and counted. */
  try(title: string, work: () => Promise<void>): Promise<void>
}

/** A check has failed and been told of; what needed it cannot go on. */
export class CheckFailed extends Error {
  readonly code = 'check_failed'

  constructor(title: string, cause: unknown) {
    super(title, { cause })
    this.name = 'CheckFailed'
  }
}

const sayStillEveryMs = 15_000

/** Counts and prints. Whatever ends because `signal` was aborted is no failure, and is thrown on. */
export function openChecks(
  write: (text: string) => void,
  signal: AbortSignal,
  now: () => number = () => performance.now(),
): Checks {
  let passed = 0
  let failed = 0
  async function must<T>(title: string, work: () => Promise<T>): Promise<T> {
    const startedAt = now()
    const seconds = () => `${((now() - startedAt) / 1_000).toFixed(1)} s`
    const still = setInterval(() => write(`  · ${title}: ${seconds()}\n`), sayStillEveryMs)
    try {
      signal.throwIfAborted()
      const result = await work()
      passed++
      write(`  ✓ ${title}  ${seconds()}\n`)
      return result
    } catch (error) {
      if (signal.aborted) throw signal.reason
      failed++
      const message = (error as Error).message.replaceAll('\n', '\n    ')
      write(`  ✗ ${title}  ${seconds()}\n    ${message}\n`)
      throw new CheckFailed(title, error)
    } finally {
      clearInterval(still)
    }
  }
  return {
    get passed() {
      return passed
    },
    get failed() {
      return failed
    },
    heading: (text) => write(`\n${text}\n`),
    must,
    async try(title, work) {
      try {
        await must(title, work)
      } catch (error) {
        if (!(error instanceof CheckFailed)) throw error
      }
    },
  }
}
