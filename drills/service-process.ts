import {
  type Child,
  type DataFolder,
  type ServiceName,
  startService,
  supervise,
  type Supervised,
  waitUntil,
} from 'local-stack'
import type { SourcePatch } from './source-patch.ts'

export type ServiceProcessOptions = {
  name: ServiceName
  label: string
  url: string
  env: Record<string, string>
  dataFolder: DataFolder
}

/** How one process ended. */
export type Ending = { atMs: number; signal: NodeJS.Signals | null; code: number | null }

const preload = new URL('./source-patch.ts', import.meta.url).href

/** A service that is started again whenever it ends, as its operator's supervisor would. */
export class ServiceProcess {
  readonly name: ServiceName
  readonly label: string
  readonly endings: Ending[] = []
  /** How often it was told to end, at once or at a point of its code. */
  asked = 0
  readonly #options: ServiceProcessOptions
  #supervised: Supervised | undefined
  #next: Record<string, string> = {}
  #always: Record<string, string> = {}

  constructor(options: ServiceProcessOptions) {
    this.#options = options
    this.name = options.name
    this.label = options.label
  }

  get url(): string {
    return this.#options.url
  }

  get pid(): number | undefined {
    return this.#supervised?.pid
  }

  /** Resolves when it answers HTTP; ready it may not be yet. */
  async start(): Promise<void> {
    this.#supervised = await supervise({
      name: this.label,
      launch: () => this.#launch(),
      backoff: { firstMs: 20, capMs: 1_000 },
      goodAfterMs: 2_000,
      onDeath: ({ exit }) => this.endings.push({ atMs: Date.now(), ...exit }),
    })
    await this.answers()
  }

  answers(): Promise<boolean> {
    return waitUntil(
      async () => {
        const limit = AbortSignal.timeout(1_000)
        return (await fetch(`${this.#options.url}/livez`, { signal: limit })).status < 500
      },
      { what: `${this.label} to answer`, deadlineMs: 30_000 },
    )
  }

  /** Source patches of every launch from now on. */
  patchAlways(patches: readonly SourcePatch[], hits = 0): void {
    this.#always = patchEnvironment(patches, hits)
  }

  /** Source patches of the next launch only. */
  patchNext(patches: readonly SourcePatch[], hits: number): void {
    this.asked += 1
    this.#next = patchEnvironment(patches, hits)
  }

  kill(signal: NodeJS.Signals): void {
    if (signal === 'SIGKILL' || signal === 'SIGTERM') this.asked += 1
    this.#supervised?.kill(signal)
  }

  /** kill -9, and resolves when it has ended; its successor is then being started. */
  async killHard(): Promise<void> {
    const before = this.endings.length
    this.kill('SIGKILL')
    await this.endingsReach(before + 1)
  }

  /** SIGTERM, and resolves when it has ended; its successor is then being started. */
  async restart(): Promise<void> {
    const before = this.endings.length
    this.kill('SIGTERM')
    try {
      await this.endingsReach(before + 1)
    } catch (error) {
      // Said by the caller; the next fault still meets a process that works.
      await this.killHard()
      throw error
    }
  }

  endingsReach(count: number, deadlineMs = 30_000): Promise<boolean> {
    return waitUntil(() => this.endings.length >= count, {
      what: `the end of ${this.label}`,
      deadlineMs,
      intervalMs: 5,
    })
  }

  async stop(): Promise<void> {
    const running = this.#supervised
    this.#supervised = undefined
    // One that is paused hears nothing but this.
    running?.kill('SIGCONT')
    await running?.stop()
  }

  #launch(): Promise<Child> {
    const { name, label, env, dataFolder } = this.#options
    const extra = Object.keys(this.#next).length > 0 ? this.#next : this.#always
    this.#next = {}
    return startService({ name, label, dataFolder, env: { ...env, ...extra } })
  }
}

/** What has a service loaded with these patches. */
export function patchEnvironment(
  patches: readonly SourcePatch[],
  hits: number,
): Record<string, string> {
  return {
    NODE_OPTIONS: `--import=${preload}`,
    DRILL_PATCHES: JSON.stringify(patches),
    DRILL_POINT_HITS: String(hits),
  }
}
