import { pause } from 'service/backoff'
import type { TestModule } from 'vitest/node'
import { repository, runCommand } from './command.ts'
import { readComposeFile } from './compose-file.ts'
import { ContainersError } from './errors.ts'

const lookEveryMs = 1_000

// Tests that start, stop or kill servers of their own say nothing of containers.
const withOwnServers = ['local-stack/**', '**/*-restart.*.test.ts']

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
  const modules = await runTests(signal).finally(() => over.abort())
  await watching
  signal.throwIfAborted()
  const tests = modules.flatMap((module) => [...module.children.allTests()])
  const inState = (state: string) => tests.filter((test) => test.result().state === state).length
  const counts = `${inState('passed')} passed, ${inState('failed')} failed`
  if (inState('passed') === 0 || !modules.every((module) => module.ok())) {
    throw new ContainersError('tests_failed', `tests: ${counts}; what failed is above`)
  }
  const { postgres, kafka } = readComposeFile().services
  const missing = [postgres!.image, kafka!.image].filter((image) => !images.has(image))
  if (missing.length === 0) return counts
  throw new ContainersError('unexpected_answer', `no container of ${missing.join(', ')} was seen`)
}

/**
 * In this process, not as a command: so that an interruption can end the run in order, which stops
 * the servers, where a signal to vitest would leave them to themselves.
 */
async function runTests(signal: AbortSignal): Promise<readonly TestModule[]> {
  // The servers' set-up reads these when vitest loads it.
  delete process.env.TEST_POSTGRES_URL
  delete process.env.TEST_KAFKA_BROKERS
  process.env.TEST_STACK = 'containers'
  const { createVitest, parseCLI } = await import('vitest/node')
  const excluded = withOwnServers.flatMap((files) => ['--exclude', files])
  const { filter, options } = parseCLI([
    'vitest',
    'run',
    '--project',
    'pg',
    '--project',
    'kafka',
    ...excluded,
  ])
  const vitest = await createVitest({ ...options, root: repository })
  const cancel = () => void vitest.cancelCurrentRun('keyboard-input')
  signal.addEventListener('abort', cancel, { once: true })
  try {
    signal.throwIfAborted()
    const { testModules, unhandledErrors } = await vitest.start(filter)
    if (unhandledErrors.length === 0) return testModules
    throw new ContainersError('tests_failed', `${unhandledErrors.length} errors outside of tests`)
  } finally {
    signal.removeEventListener('abort', cancel)
    await vitest.close()
  }
}

/** Images by id of the containers that any run of testcontainers has on this machine now. */
async function testContainers(): Promise<Map<string, string>> {
  const list = ['docker', 'ps', '-a', '--filter', 'label=org.testcontainers=true']
  const lines = await runCommand([...list, '--format', '{{.ID}} {{.Image}}'], { timeoutMs: 60_000 })
  return new Map(
    [...lines.matchAll(/^(\S+) (\S+)$/gm)].map(([, id = '', image = '']) => [id, image]),
  )
}
