import { existsSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { setImmediate } from 'node:timers'

// Loaded before a service by `NODE_OPTIONS=--import`, in drills only: changes lines of the service's
// own source as it is loaded. So the product needs no switch that kills it or makes it wrong, and
// what is drilled is its own code but for the lines named. A text that is not there exactly once ends
// the process: a patch that no longer fits must be mended, not passed over.

/** One replacement in one file. `file` ends its path, such as `outbox-relay/polling.ts`. */
export type SourcePatch = { file: string; find: string; put: string }

/** What patched lines may call: `drill.point()` ends the process at its nth call. */
export type DrillHook = {
  point(): void
  due(): boolean
  die(): void
  /** Sends the process the signal that is armed for the place, once. */
  reach(place: string): void
}

const patches = JSON.parse(process.env.DRILL_PATCHES ?? '[]') as SourcePatch[]
let left = Number(process.env.DRILL_POINT_HITS ?? 1)

const drill: DrillHook = {
  due: () => (left -= 1) === 0,
  // By a signal of its own, so that nothing of this process runs after it.
  die: () => process.kill(process.pid, 'SIGKILL'),
  point() {
    if (drill.due()) drill.die()
  },
  reach(place) {
    const path = process.env.DRILL_ARMED ?? ''
    if (!existsSync(path)) return
    const [armed, signal] = readFileSync(path, 'utf8').split('\n')
    if (armed !== place) return
    rmSync(path)
    process.kill(process.pid, signal)
  },
}
Object.assign(globalThis, { drill, drillSoon: setImmediate })

function patched(source: string, { file, find, put }: SourcePatch): string {
  const parts = source.split(find)
  if (parts.length === 2) return parts.join(put)
  writeSync(2, `drill patch of ${file}: the text is there ${parts.length - 1} times:\n${find}\n`)
  return process.exit(70)
}

if (patches.length > 0) {
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context)
      const own = patches.filter(({ file }) => url.endsWith(`/${file}`))
      if (own.length === 0) return loaded
      const source = own.reduce(patched, Buffer.from(loaded.source as Buffer).toString())
      for (const { file } of own) writeSync(2, `drill patch applied: ${file}\n`)
      return { ...loaded, source }
    },
  })
}
