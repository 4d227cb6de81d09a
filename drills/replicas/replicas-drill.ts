import { waitUntil } from 'local-stack'
import { pause } from 'service/backoff'
import type { AtRest } from '../at-rest.ts'
import { patchEnvironment, type ServiceProcess } from '../service-process.ts'
import type { SourcePatch } from '../source-patch.ts'
import { DrillStack } from '../stack.ts'
import { leftBehind, type Place } from '../left-behind.ts'
import type { Mode } from '../switching/places.ts'
import { underLoad } from '../under-load.ts'
import type { ReplicaCase } from './cases.ts'
import { Clocks } from './clocks.ts'
import { LeaderWatch, type Led, type Takeover } from './leader-watch.ts'

type CaseResult = {
  name: string
  takeover: Takeover | undefined
  /** What should not have been, as sentences. */
  wrong: string[]
}

export type ReplicasResult = AtRest & { leaseMs: number; cases: CaseResult[] }

export type ReplicasOptions = {
  seed: number
  folder: string | undefined
  leaseMs: number
  mode: Mode
  patches: readonly SourcePatch[]
  say: (line: string) => void
}

const commandsPerSecond = 300
/** Beyond its lease a leader is to be replaced, and its successor to have published, within this. */
export const takeoverSlackMs = 1_000

/** Of a lease: by then whoever stands by has seen the leader's last renewal, and may not take it yet. */
const renewalSeenAfter = 0.26

/** Three relays, one leads; what is done to it, or to their clocks, one case after the other. */
export async function runReplicas(
  cases: readonly ReplicaCase[],
  { seed, folder, leaseMs, mode, patches, say }: ReplicasOptions,
): Promise<ReplicasResult> {
  using clocks = new Clocks()
  const patched = patchEnvironment(patches, 0)
  const environment = {
    ...patched,
    ...clocks.environment(patched.NODE_OPTIONS ?? ''),
    RELAY_LEASE_MS: String(leaseMs),
    RELAY_MODE: mode,
  }
  await using stack = await DrillStack.start({
    folder,
    connect: mode === 'debezium',
    environment: { 'outbox-relay': environment },
  })
  await stack.secondRelay.start()
  const third = await stack.add('outbox-relay', 'third-relay')
  const relays = [stack.services['outbox-relay'], stack.secondRelay, third]
  await using watch = await LeaderWatch.open(stack.writeUrl)
  const drilled = new Replicas({ relays, clocks, watch, leaseMs, mode, place: stack })
  const { result, ...atRest } = await underLoad(
    stack,
    { seed, commandsPerSecond, say },
    async () => {
      const results: CaseResult[] = []
      for (const [n, each] of cases.entries()) {
        const done = await drilled.run(each)
        const { takeover, wrong } = done
        const told = takeover === undefined ? 'nobody took over' : toldOf(takeover)
        say(`${n + 1}/${cases.length} ${each.name}: ${[told, ...wrong].join('; ')}`)
        results.push(done)
      }
      return results
    },
  )
  return { ...atRest, leaseMs, cases: result }
}

const toldOf = ({ leaseMs, sendingMs }: Takeover) =>
  `lease taken after ${Math.round(leaseMs)} ms, sending after ${Math.round(sendingMs)} ms`

/**
 * A leader renews three times in its lease, so that at any time two thirds of it are left, but for what a
 * renewal takes: whoever has it sooner than after a half has it beside a leader that may still send.
 */
export function untimely(after: Takeover, leaseMs: number): string[] {
  const limitMs = leaseMs + takeoverSlackMs
  if (after.leaseMs < leaseMs / 2) return ['taken over while it was held: two leaders']
  if (after.leaseMs > limitMs) return [`taken over after more than ${limitMs} ms`]
  if (after.sendingMs > limitMs) return [`nothing sent for more than ${limitMs} ms`]
  return []
}

type Parts = {
  relays: readonly ServiceProcess[]
  clocks: Clocks
  watch: LeaderWatch
  leaseMs: number
  mode: Mode
  place: Place
}

class Replicas {
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
  }

  async run(each: ReplicaCase): Promise<CaseResult> {
    const { relays, clocks, leaseMs, place } = this.#parts
    const wrong: string[] = []
    let takeover: Takeover | undefined
    try {
      await Promise.all(relays.map((relay) => relay.answers()))
      await this.#sends()
      // Long enough for all of them to have seen the lease.
      await pause(leaseMs)
      if (each.kind === 'SIGKILL') takeover = await this.#kill()
      else if (each.kind === 'SIGSTOP') takeover = await this.#freeze(each.forMs, wrong)
      else takeover = await this.#moveClocks(each, wrong)
    } catch (error) {
      wrong.push((error as Error).message)
    } finally {
      for (const relay of relays) relay.kill('SIGCONT')
    }
    await Promise.all(relays.map((relay) => relay.answers()))
    if (each.kind === 'clock') await Promise.all(relays.map((relay) => clocks.shift(relay, 0)))
    if (takeover !== undefined) wrong.push(...untimely(takeover, leaseMs))
    wrong.push(...(await leftBehind(place)))
    return { name: each.name, takeover, wrong }
  }

  /** The mode's own sender sends: every leadership begins by polling. */
  async #sends(): Promise<void> {
    const { mode } = this.#parts
    const look = async () => {
      const { leader } = await this.#leader()
      const response = await fetch(`${leader.url}/relay`, { signal: AbortSignal.timeout(1_000) })
      return ((await response.json()) as { source: string }).source === mode
    }
    await waitUntil(look, { what: `the leader to send by ${mode}`, deadlineMs: 60_000 })
  }

  async #kill(): Promise<Takeover> {
    const { led, leader } = await this.#leader()
    const fromMs = performance.now()
    leader.kill('SIGKILL')
    return this.#takenOver(led, fromMs)
  }

  async #freeze(forMs: number, wrong: string[]): Promise<Takeover> {
    const { led, leader } = await this.#leader()
    const fromMs = performance.now()
    leader.kill('SIGSTOP')
    const takeover = await this.#takenOver(led, fromMs)
    // Its successor removes it, and not only it when it wakes.
    wrong.push(...(await leftBehind(this.#parts.place)))
    await pause(forMs - (performance.now() - fromMs))
    await this.#keepsLeader('the old leader woke', wrong, async () => {
      leader.kill('SIGCONT')
      await leader.answers()
    })
    return takeover
  }

  /** There and back while the leader lives, and once more while it is frozen. */
  async #moveClocks(
    { whose, byMs }: Extract<ReplicaCase, { kind: 'clock' }>,
    wrong: string[],
  ): Promise<Takeover> {
    const { relays, clocks, leaseMs } = this.#parts
    for (const [when, offByMs] of [
      ['the clock moved', byMs],
      ['the clock moved back', 0],
    ] as const) {
      const { leader } = await this.#leader()
      const moved = relays.filter((relay) => (relay === leader) === (whose === 'leader'))
      await this.#keepsLeader(when, wrong, () =>
        Promise.all(moved.map((relay) => clocks.shift(relay, offByMs))),
      )
    }
    const { led, leader } = await this.#leader()
    const fromMs = performance.now()
    leader.kill('SIGSTOP')
    await pause(leaseMs * renewalSeenAfter)
    for (const relay of relays) {
      if ((relay === leader) === (whose === 'leader')) clocks.tell(relay, byMs)
    }
    const takeover = await this.#takenOver(led, fromMs)
    await this.#keepsLeader('the old leader woke', wrong, async () => {
      leader.kill('SIGCONT')
      await leader.answers()
    })
    return takeover
  }

  /** Nobody takes the lease from a leader that lives, for some lengths of it after what was done. */
  async #keepsLeader(when: string, wrong: string[], act: () => Promise<unknown>): Promise<void> {
    const { watch, leaseMs } = this.#parts
    const before = await watch.look()
    await act()
    await pause(3 * leaseMs)
    const { epoch } = await watch.look()
    if (epoch !== before.epoch) {
      wrong.push(`${when}: ${epoch - before.epoch} times the lease went, and its leader lived`)
    }
  }

  #takenOver(led: Led, fromMs: number): Promise<Takeover> {
    const { watch, leaseMs } = this.#parts
    return watch.takenOver(led, fromMs, leaseMs + 10_000)
  }

  async #leader(): Promise<{ led: Led; leader: ServiceProcess }> {
    const { relays, watch } = this.#parts
    const deadline = performance.now() + 30_000
    for (; performance.now() < deadline; await pause(20)) {
      const led = await watch.look()
      const leader = relays.find(({ pid }) => pid === led.pid)
      if (leader !== undefined) return { led, leader }
    }
    throw new Error('no relay of ours leads')
  }
}
