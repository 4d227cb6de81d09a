import type { Head } from '../guard.ts'
import type { NewEntry } from './entries.ts'
import type { FeedHead } from './feed.ts'
import type { ComparedHead } from './heads-walk.ts'

// What a sweep makes of two looks at the same account, some minutes apart. A difference alone says
// nothing: events are on their way all the time. Pure.

export type Suspect = {
  kind: 'behind' | 'ahead' | 'other'
  /** What the feed had, and what was here (0: nothing), when it was first noted. */
  fed: number
  have: number
  notedAtMs: number
}

/** An account of which something is missing here, or whose history here is not the feed's. */
export type Judged = ComparedHead & { verdict: 'lost_tail' | 'version_conflict' }

/**
 * Judges an account by what it was suspected of before. `mayJudge` says whether everything written
 * before a moment has come through the log by now: until then a suspect stays one, as first noted.
 */
export function judge(
  fed: FeedHead,
  head: Head | undefined,
  { before, nowMs, mayJudge }: JudgeOptions,
): { suspect?: Suspect; verdict?: Judged['verdict'] } {
  const have = head?.version ?? 0
  const kind = differenceOf(fed, head)
  if (kind === undefined) return {}
  const fresh: Suspect = { kind, fed: fed.version, have, notedAtMs: nowMs }
  if (before === undefined || before.kind !== kind || wentOn(fed, have, before)) {
    return { suspect: fresh }
  }
  if (!mayJudge(before.notedAtMs)) return { suspect: before }
  return { verdict: verdictOf(kind) }
}

type JudgeOptions = {
  before: Suspect | undefined
  nowMs: number
  mayJudge: (sinceMs: number) => boolean
}

export function verdictOf(kind: Suspect['kind']): Judged['verdict'] {
  return kind === 'behind' ? 'lost_tail' : 'version_conflict'
}

/** The feed was asked first, so being ahead of it is the common case, too. */
export function differenceOf(fed: FeedHead, head: Head | undefined): Suspect['kind'] | undefined {
  const have = head?.version ?? 0
  if (have < fed.version) return 'behind'
  if (have > fed.version) return 'ahead'
  return head?.lastEventId === fed.lastEventId ? undefined : 'other'
}

/** Whoever was behind has what the feed had then; whoever was ahead, the feed has it by now. */
function wentOn(fed: FeedHead, have: number, before: Suspect): boolean {
  if (before.kind === 'behind') return have >= before.fed
  if (before.kind === 'ahead') return fed.version >= before.have
  return have !== before.have
}

export function entryOfVerdict({ fed, head, verdict }: Judged): NewEntry {
  const { account, version } = fed
  const have = head?.version ?? 0
  const other =
    version === 0 ? 'the feed does not know it' : `the feed at ${version} with another event`
  const detail =
    verdict === 'lost_tail'
      ? `account ${account} stands at version ${have}, and version ${version} did not come`
      : `account ${account} stands at version ${have}, and ${other}`
  const highest = Math.max(have, version)
  return { account, code: verdict, detail, wanted: have + 1, seen: version, highest, offset: null }
}
