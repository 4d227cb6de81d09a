import { waitUntil } from 'local-stack'
import type { ServiceProcess } from '../service-process.ts'
import { ask } from '../sql.ts'
import type { DrillStack } from '../stack.ts'
import type { Mode } from './places.ts'

// The two relays of the drill, as their operator has them: asked by HTTP, seen by what they answer.

type Answer = {
  next: string
  parked: { aggregates: number }
  mode: string
  source: string
  switching: { waitingFor: string | null } | null
  leader: string | null
}

type Seen = Answer & { leads: boolean }

type Asking = {
  method: string
  path: string
  body: object
  held?: ServiceProcess | undefined
}

export class Relays {
  readonly #stack: DrillStack

  constructor(stack: DrillStack) {
    this.#stack = stack
  }

  get #both(): readonly ServiceProcess[] {
    return [this.#stack.services['outbox-relay'], this.#stack.secondRelay]
  }

  switchTo(mode: Mode): Promise<void> {
    const body = { mode, reason: 'drill' }
    return this.#ask(`${mode} to be asked for`, { method: 'PUT', path: '/relay/mode', body })
  }

  /** Asked of the other one, where one is held. */
  cancel(held?: ServiceProcess): Promise<void> {
    const asking = { method: 'DELETE', path: '/relay/switch', body: { reason: 'drill' }, held }
    return this.#ask('the switch to be called off', asking)
  }

  /** Until it is taken: Connect, or the relay that is asked, may not be there yet. */
  async #ask(what: string, { method, path, body, held }: Asking): Promise<void> {
    let turn = 0
    const asked = this.#both.filter((each) => each !== held)
    await waitUntil(
      async () => {
        const { url } = asked[(turn += 1) % asked.length]!
        const response = await fetch(`${url}${path}`, {
          method,
          headers: { 'Content-Type': 'application/json' },
          body: JSON.stringify(body),
          signal: AbortSignal.timeout(3_000),
        })
        // Called off by a request whose answer was lost: there is no switch any more.
        if (response.ok || response.status === 404) return true
        throw new Error(`${response.status} ${await response.text()}`)
      },
      { what, deadlineMs: 60_000 },
    )
  }

  /** Everything that is parked is to be released. */
  retryAll(): Promise<void> {
    const body = { reason: 'drill' }
    const asking = { method: 'POST', path: '/relay/parked/retry', body }
    return this.#ask('a retry to be asked for', asking)
  }

  /** Everything up to there is sent, or held behind what is parked. */
  async publishes(position: bigint): Promise<void> {
    await this.#shows(`position ${position} to be passed`, ({ next }) => BigInt(next) > position)
  }

  async parks(what: string, holds: (aggregates: number) => boolean): Promise<void> {
    await this.#shows(what, ({ parked, leads }) => leads && holds(parked.aggregates))
  }

  /** Resolves once a relay says that the switch waits for this process of the server. */
  async waitsFor(pid: string): Promise<void> {
    await this.#shows(`it to wait for pid ${pid}`, ({ switching }) =>
      new RegExp(`pid ${pid}, for \\d+ s, its last statement began `).test(
        switching?.waitingFor ?? '',
      ),
    )
  }

  /** Resolves once no switch is under way, and it is the mode of before. */
  async stays(mode: Mode): Promise<void> {
    await this.#shows(
      `it to stay in ${mode}`,
      (seen) => seen.mode === mode && seen.switching === null && seen.leads,
    )
  }

  /** Resolves once it is the mode, and the mode's own sender sends. */
  async arrives(mode: Mode): Promise<void> {
    await this.#shows(
      `the relay to send by ${mode}`,
      (seen) => seen.mode === mode && seen.switching === null && seen.source === mode && seen.leads,
    )
  }

  async #shows(what: string, holds: (seen: Seen) => boolean): Promise<void> {
    await waitUntil(
      async () => {
        const answers = await Promise.all(this.#both.map((each) => this.#look(each)))
        return answers.some((seen) => seen !== undefined && holds(seen))
      },
      { what, deadlineMs: 90_000, intervalMs: 50 },
    )
  }

  /** The process that leads. */
  async leader(): Promise<ServiceProcess> {
    let found: ServiceProcess | undefined
    await waitUntil(
      async () => {
        const pid = await this.#leaderPid()
        found = this.#both.find((each) => each.pid === pid)
        return found !== undefined
      },
      { what: 'a leader', deadlineMs: 30_000, intervalMs: 20 },
    )
    return found!
  }

  /** As the row says. */
  async mode(): Promise<Mode> {
    const rows = await ask<{ mode: Mode }>(this.#stack.writeUrl, 'select mode from outbox.relay')
    return rows[0]?.mode ?? 'polling'
  }

  async #leaderPid(): Promise<number> {
    const [row] = await ask<{ leader: string | null }>(
      this.#stack.writeUrl,
      'select leader from outbox.relay',
    )
    return Number(row?.leader?.split(':')[1])
  }

  async #look(relay: ServiceProcess): Promise<Seen | undefined> {
    try {
      const response = await fetch(`${relay.url}/relay`, { signal: AbortSignal.timeout(1_000) })
      const seen = (await response.json()) as Answer
      return { ...seen, leads: Number(seen.leader?.split(':')[1]) === relay.pid }
    } catch {
      return undefined
    }
  }
}
