import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { waitUntil } from 'local-stack'
import type { ServiceProcess } from '../service-process.ts'

const preload = new URL('./shifted-clock.ts', import.meta.url).href
const slackMs = 60_000

/** The wall clocks of single processes, moved while they run. */
export class Clocks {
  readonly #folder = mkdtempSync(join(tmpdir(), 'sluice-clocks-'))

  /** For a process whose clock is to be moved; `NODE_OPTIONS` as it would be otherwise. */
  environment(options: string): Record<string, string> {
    return { NODE_OPTIONS: `${options} --import=${preload}`.trim(), DRILL_CLOCKS: this.#folder }
  }

  /** Resolves once the process itself says that its clock is off by so much. */
  async shift(process: ServiceProcess, byMs: number): Promise<void> {
    const told = this.tell(process, byMs)
    await waitUntil(
      () => existsSync(told) && Math.abs(Number(readFileSync(told, 'utf8')) - now(byMs)) < slackMs,
      { what: `the clock of ${process.label} to be moved`, deadlineMs: 10_000, intervalMs: 5 },
    )
  }

  /** The same for one that is frozen: its clock has moved when it wakes. */
  tell(process: ServiceProcess, byMs: number): string {
    const file = join(this.#folder, String(process.pid))
    rmSync(`${file}.now`, { force: true })
    writeFileSync(file, String(byMs))
    process.kill('SIGUSR2')
    return `${file}.now`
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

const now = (offByMs: number) => Date.now() + offByMs
