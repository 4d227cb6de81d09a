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
  /** How one process of it is started. */
  launch?: typeof startService
}

/** How one process ended, and whether that is how it was told to. */
export type Ending = {
  atMs: number
  signal: NodeJS.Signals | null
  code: number | null
  asked: boolean
}

const preload = new URL('./source-patch.ts', import.meta.url).href

type Exit = Pick<Ending, 'code' | 'signal'>

/** A service that is started again whenever it ends, as its operator's supervisor would. */
export class ServiceProcess {
  readonly name: ServiceName
  readonly label: string
  readonly endings: Ending[] = []
  readonly #options: ServiceProcessOptions
  #supervised: Supervised | undefined
  #next: Record<string, string> = {}
  #always: Record<string, string> = {}
  /** By what the process that runs now is to end: signals it was sent, a point that kills it. */
  #told = new Set<NodeJS.Signals>()

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
      onDeath: ({ exit }) => {
        this.endings.push({ atMs: Date.now(), ...exit, asked: endedAsTold(exit, this.#told) })
      },
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
    this.#next = patchEnvironment(patches, hits)
  }

  kill(signal: NodeJS.Signals): void {
    // Between two processes nobody hears it, and the next one was told nothing.
    if (this.pid !== undefined) this.#told.add(signal)
    this.#supervised?.kill(signal)
  }

  /** It is to meet its end by its own code, at a place that is armed. */
  mayKillItself(): void {
    this.#told.add('SIGKILL')
  }

  /** kill -9, and resolves when it has ended; its successor is then being started. */
  async killHard(): Promise<void> {
    const before = this.endings.length
    this.kill('SIGKILL')
    await this.endingsReach(before + 1)
  }

  /** kill -9, and it stays away until it is started. */
  async killForGood(): Promise<void> {
    const running = this.#supervised
    this.#supervised = undefined
    running?.kill('SIGKILL')
    await running?.stop()
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
    const { name, label, env, dataFolder, launch = startService } = this.#options
    const extra = Object.keys(this.#next).length > 0 ? this.#next : this.#always
    this.#next = {}
    this.#told = new Set(Object.keys(extra).length > 0 ? ['SIGKILL'] : [])
    return launch({ name, label, dataFolder, env: { ...env, ...extra } })
  }
}

/** Told SIGTERM it drains and ends with code 0; whatever else it ends by came by itself. */
function endedAsTold({ code, signal }: Exit, told: ReadonlySet<NodeJS.Signals>): boolean {
  return signal === 'SIGKILL' ? told.has('SIGKILL') : code === 0 && told.has('SIGTERM')
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
