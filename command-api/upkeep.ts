import { expireHolds } from './expiry.ts'
import { resumeOperations, type OperationSettings } from './operations.ts'
import { purgeAnswers } from './retention.ts'
import { startTimer } from './timer.ts'

const resumptionSeconds = 5
const purgeSeconds = 10
const dayMs = 86_400_000

export type UpkeepSettings = OperationSettings & {
  /** 0 is never. */
  expirySeconds: number
  /** How long a key brings back its answer. */
  idempotencyDays: number
}

/** What comes round beside the commands of callers. */
export function startUpkeep(settings: UpkeepSettings): AsyncDisposable[] {
  const { pool, execute, birth, log, expirySeconds, idempotencyDays } = settings
  return [
    startTimer({
      name: 'hold-expiry',
      pool,
      everySeconds: expirySeconds,
      work: () => expireHolds(pool, execute, birth),
      log,
    }),
    startTimer({
      name: 'operations',
      pool,
      everySeconds: resumptionSeconds,
      work: () => resumeOperations(settings),
      log,
    }),
    startTimer({
      name: 'answers',
      pool,
      everySeconds: purgeSeconds,
      work: async () => {
        const before = new Date(birth.now().getTime() - idempotencyDays * dayMs)
        const removed = await purgeAnswers(pool, before)
        if (removed > 0) log.info({ event: 'answers_removed', removed }, 'old answers removed')
      },
      log,
    }),
  ]
}
