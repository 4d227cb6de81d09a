import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { pause } from 'service/backoff'
import { z } from 'zod'
import { repository, runCommand } from './command.ts'
import { readComposeFile } from './compose-file.ts'
import { ContainersError } from './errors.ts'

const testsMs = 30 * 60_000
const lookEveryMs = 1_000

const outcomeSchema = z.object({
  passed: z.number(),
  failed: z.number(),
  /** Nothing failed outside of the tests either. */
  whole: z.boolean(),
})
type Outcome = z.output<typeof outcomeSchema>

/**
 * Runs the tests that need servers, on containers, and says how many there were. Throws
 * `tests_failed`, and `unexpected_answer` when they passed on something else than the images of the
 * compose file. An aborted signal ends the run after the tests that are running, and throws.
 */
export async function runTestsOnContainers(signal: AbortSignal): Promise<string> {
  const before = await testContainers()
  const images = new Set<string>()
  const over = new AbortController()
  const watching = (async () => {
    for (; !over.signal.aborted; await pause(lookEveryMs, over.signal)) {
      for (const [id, image] of await testContainers()) if (!before.has(id)) images.add(image)
    }
  })()
  const outcome = await runTests(signal).finally(() => over.abort())
  await watching
  signal.throwIfAborted()
  const counts = `${outcome?.passed ?? 0} passed, ${outcome?.failed ?? 0} failed`
  if (!outcome?.whole || outcome.passed === 0) {
    throw new ContainersError('tests_failed', `tests: ${counts}; what failed is above`)
  }
  const { postgres, kafka } = readComposeFile().services
  const missing = [postgres!.image, kafka!.image].filter((image) => !images.has(image))
  if (missing.length === 0) return counts
  throw new ContainersError('unexpected_answer', `no container of ${missing.join(', ')} was seen`)
}

/** undefined when the run ended without saying how. */
function runTests(signal: AbortSignal): Promise<Outcome | undefined> {
  const { TEST_POSTGRES_URL: _url, TEST_KAFKA_BROKERS: _brokers, ...environment } = process.env
  const child = fork(fileURLToPath(new URL('./run-tests.ts', import.meta.url)), {
    cwd: repository,
    env: { ...environment, TEST_STACK: 'containers' },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    detached: true,
  })
  let outcome: Outcome | undefined
  child.on('message', (message) => (outcome = outcomeSchema.parse(message)))
  const cancel = () => child.connected && child.send('cancel')
  const ending = AbortSignal.any([signal, AbortSignal.timeout(testsMs)])
  ending.addEventListener('abort', cancel, { once: true })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', () => {
      ending.removeEventListener('abort', cancel)
      resolve(outcome)
    })
  })
}

/** Images by id of the containers that any run of testcontainers has on this machine now. */
async function testContainers(): Promise<Map<string, string>> {
  const list = ['docker', 'ps', '-a', '--filter', 'label=org.testcontainers=true']
  const lines = await runCommand([...list, '--format', '{{.ID}} {{.Image}}'], { timeoutMs: 60_000 })
  return new Map(
    [...lines.matchAll(/^(\S+) (\S+)$/gm)].map(([, id = '', image = '']) => [id, image]),
  )
}
