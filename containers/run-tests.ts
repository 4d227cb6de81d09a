// Runs the tests that need servers, for test-run.ts, as a process group of its own: no Ctrl-C comes
// here, since vitest would leave the servers that it started to themselves. It ends early, and in
// order, when it is told to, or when whoever would tell it is gone.
import { fileURLToPath } from 'node:url'
import { createVitest } from 'vitest/node'

// Tests that start, stop or kill servers of their own say nothing of containers.
const withOwnServers = ['local-stack/**', '**/*-restart.*.test.ts']

const vitest = await createVitest({
  root: fileURLToPath(new URL('..', import.meta.url)),
  watch: false,
  project: ['pg', 'kafka'],
  cliExclude: withOwnServers,
})
const cancel = () => void vitest.cancelCurrentRun('keyboard-input')
process.once('message', cancel)
process.once('disconnect', cancel)
try {
  const { testModules, unhandledErrors } = await vitest.start()
  const tests = testModules.flatMap((module) => [...module.children.allTests()])
  const inState = (state: string) => tests.filter((test) => test.result().state === state).length
  const whole = unhandledErrors.length === 0 && testModules.every((module) => module.ok())
  const outcome = { passed: inState('passed'), failed: inState('failed'), whole }
  if (process.connected) process.send?.(outcome)
} finally {
  await vitest.close()
  process.off('disconnect', cancel)
  if (process.connected) process.disconnect()
}
