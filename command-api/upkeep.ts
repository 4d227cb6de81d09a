import { expireHolds } from './expiry.ts'
import { resumeOperations, type OperationSettings } from './operations.ts'
import { startTimer } from './timer.ts'

const resumptionSeconds = 5

/** What comes round beside the commands of callers. */
export function startUpkeep(settings: OperationSettings, expirySeconds: number): AsyncDisposable[] {
  const { pool, execute, birth, log } = settings
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
  ]
}
