import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { waitUntil } from 'local-stack'

/** Tells whichever relay comes to a place first to send itself a signal there. */
export class ArmedPlace {
  readonly #folder = mkdtempSync(join(tmpdir(), 'sluice-switching-'))
  readonly #file = join(this.#folder, 'armed')

  get environment(): Record<string, string> {
    return { DRILL_ARMED: this.#file }
  }

  arm(place: string, signal: NodeJS.Signals): void {
    writeFileSync(this.#file, `${place}\n${signal}`)
  }

  disarm(): void {
    rmSync(this.#file, { force: true })
  }

  /** Resolves once a relay was there. */
  async reached(): Promise<void> {
    const what = 'a relay to come to the place'
    await waitUntil(() => !existsSync(this.#file), { what, deadlineMs: 30_000, intervalMs: 5 })
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
