import { waitUntil } from 'local-stack'
import type { ServiceProcess } from '../service-process.ts'
import { ask } from '../sql.ts'
import type { DrillStack } from '../stack.ts'
import type { Mode } from './places.ts'

// The two relays of the drill, as their operator has them: asked by HTTP, seen by what they answer.

type Answer = { mode: string; source: string; switching: unknown; leader: string | null }

export class Relays {
  readonly #stack: DrillStack

  constructor(stack: DrillStack) {
    this.#stack = stack
  }

  get #both(): readonly ServiceProcess[] {
    return [this.#stack.services['outbox-relay'], this.#stack.secondRelay]
  }

  /** Asks until it is taken: Connect, or the relay that is asked, may not be there yet. */
  async switchTo(mode: Mode): Promise<void> {
    let turn = 0
    await waitUntil(
      async () => {
        const { url } = this.#both[(turn += 1) % 2]!
        const response = await fetch(`${url}/relay/mode`, {
          method: 'PUT',
          headers: { 'Content-Type': 'application/json' },
          body: JSON.stringify({ mode, reason: 'drill' }),
          signal: AbortSignal.timeout(3_000),
        })
        if (response.ok) return true
        throw new Error(`${response.status} ${await response.text()}`)
      },
      { what: `${mode} to be asked for`, deadlineMs: 60_000 },
    )
  }

  /** Resolves once it is the mode, and the mode's own sender sends. */
  async arrives(mode: Mode): Promise<void> {
    await waitUntil(
      async () => {
        const answers = await Promise.all(this.#both.map((each) => this.#look(each)))
        return answers.some(
          (seen) =>
            seen?.mode === mode && seen.switching === null && seen.source === mode && seen.leads,
        )
      },
      { what: `the relay to send by ${mode}`, deadlineMs: 90_000, intervalMs: 50 },
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

  async #leaderPid(): Promise<number> {
    const [row] = await ask<{ leader: string | null }>(
      this.#stack.writeUrl,
      'select leader from outbox.relay',
    )
    return Number(row?.leader?.split(':')[1])
  }

  async #look(relay: ServiceProcess): Promise<(Answer & { leads: boolean }) | undefined> {
    try {
      const response = await fetch(`${relay.url}/relay`, { signal: AbortSignal.timeout(1_000) })
      const seen = (await response.json()) as Answer
      return { ...seen, leads: Number(seen.leader?.split(':')[1]) === relay.pid }
    } catch {
      return undefined
    }
  }
}
