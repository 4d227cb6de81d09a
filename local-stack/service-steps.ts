import { reports, stopping } from './server-steps.ts'
import type { Wiring } from './service-environments.ts'
import { serviceNames, superviseService } from './services.ts'
import type { Start } from './start.ts'

/** Starts the three services side by side; when one cannot be started, none stays. */
export async function startServices(start: Start, wiring: Wiring): Promise<void> {
  const { steps, signal, folder, cleanup } = start
  signal.throwIfAborted()
  const failed = new AbortController()
  const begun = serviceNames.map((name) =>
    steps.run(name, async (step) => {
      try {
        const service = await superviseService({
          name,
          dataFolder: folder,
          ...wiring[name],
          ...reports(steps, signal),
          progress: step.progress,
          signal: AbortSignal.any([signal, failed.signal]),
        })
        step.detail = `${wiring[name].url}, pid ${service.pid}`
        return service
      } catch (error) {
        failed.abort(error)
        throw error
      }
    }),
  )
  const results = await Promise.allSettled(begun)
  const running = results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  cleanup.defer(() => stopping(steps, 'services', running))
  // The first to fail is the reason; the others failed because of it.
  failed.signal.throwIfAborted()
}
