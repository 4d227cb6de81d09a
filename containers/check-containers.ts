import { parseArgs } from 'node:util'
import { waitUntil } from 'local-stack'
import {
  checkBank,
  checkDeposit,
  checkRead,
  checkRelay,
  checkRepair,
  type Known,
} from './bank-checks.ts'
import { type BankClient, openBankClient } from './bank-client.ts'
import { CheckFailed, openChecks, type Checks } from './checks.ts'
import { readComposeFile } from './compose-file.ts'
import { openComposeProject, type ComposeProject } from './compose-project.ts'
import { findCompose } from './docker.ts'
import { ContainersError } from './errors.ts'
import { runTestsOnContainers } from './test-run.ts'

const help = `npm run check:containers [-- --compose | --tests]

Brings docker-compose.yml up under a project name and ports of its own, sends it requests, takes it
down and up again, and removes it; then runs the tests on containers (TEST_STACK=containers). What
it starts it also removes, when it is interrupted too; the images stay.

  --compose   the first part alone
  --tests     the second part alone
  --help      this text

Needs a Docker engine with Compose, npm's registry while the image is built, and these images, which
are pulled when they are missing:
${neededImages()}

Variables: NODE_IMAGE and BUILD_NETWORK as docker-compose.yml has them, and those of testcontainers,
such as TESTCONTAINERS_RYUK_DISABLED=true where its own image cannot be had.
`

const longRunning = ['postgres', 'kafka', 'command-api', 'outbox-relay', 'query-api']

const interruption = new AbortController()
const { signal } = interruption
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  // Under npm one Ctrl-C arrives twice, so a second one must not be taken for impatience.
  process.on(name, () => {
    if (!signal.aborted) process.stdout.write(`\n${name}: removing what was started\n`)
    interruption.abort(new Error(`interrupted by ${name}`))
  })
}

process.exitCode = await main()

async function main(): Promise<number> {
  const checks = openChecks((text) => process.stdout.write(text), signal)
  try {
    const asked = readArguments()
    if (asked.help) {
      process.stdout.write(help)
      return 0
    }
    const both = asked.compose === asked.tests
    const compose = await findCompose(signal)
    process.stdout.write(`Docker and ${compose.join(' ')} answer. Images needed:\n`)
    process.stdout.write(`${neededImages()}\n`)
    if (both || asked.compose) await part(() => checkCompose(checks, compose))
    if (both || asked.tests) await part(() => checkTests(checks))
  } catch (error) {
    if (!signal.aborted && !(error instanceof ContainersError)) throw error
    process.stderr.write(`${(error as Error).message.trimEnd()}\n`)
    return signal.aborted ? 130 : 1
  }
  process.stdout.write(`\n${checks.passed} passed, ${checks.failed} failed\n`)
  return checks.failed === 0 && checks.passed > 0 ? 0 : 1
}

/** A part whose check failed has said so; the other part is run all the same. */
async function part(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof CheckFailed)) throw error
  }
}

async function checkCompose(checks: Checks, compose: readonly string[]): Promise<void> {
  const project = await openComposeProject(compose, signal)
  checks.heading(`docker-compose.yml, as ${project.name}`)
  try {
    await checks.must('the image is built', () => project.build())
    await checks.must('everything starts', () => project.up())
    await checks.must('everything is healthy', () => project.healthy(longRunning))
    const key = await checks.must('an access key is printed', () => accessKey(project))
    const bank = openBankClient({
      commandApiUrl: project.url('COMMAND_API_PORT'),
      queryApiUrl: project.url('QUERY_API_PORT'),
      relayUrl: project.url('RELAY_PORT'),
      key,
      signal,
    })
    const first = await checkBank(checks, bank)
    await checkRelay(checks, bank)
    const known = await checkRepair(checks, bank, {
      known: first,
      forget: (id) => forgetAccount(project, id),
    })
    await checks.must('it goes down, and the volumes stay', () => project.down())
    await checks.must('it comes up again', () => project.up())
    await checks.must('everything is healthy again', () => project.healthy(longRunning))
    await checkRead(checks, bank, known)
    const after = await checkDeposit(checks, bank, known)
    await checks.must('Connect joins, and has the connector for PostgreSQL', () =>
      checkConnect(project),
    )
    await checkDebezium(checks, { project, bank, known: after })
  } finally {
    const remove = async () => project[Symbol.asyncDispose]()
    if (signal.aborted) await remove()
    else await checks.try('everything goes, volumes too, and nothing is left', remove)
  }
}

async function accessKey(project: ComposeProject): Promise<string> {
  const [key] = /\bsluice_[\w-]{32}\b/.exec(await project.logs('access-key')) ?? []
  if (key !== undefined) return key
  throw new ContainersError('access_key_missing', 'the log of access-key holds no key')
}

/** Behind the query API's back, as a fault of its database would. */
async function forgetAccount(project: ComposeProject, id: string): Promise<void> {
  const sql = `delete from read.accounts where id = '${id.replaceAll("'", "''")}'`
  const psql = ['psql', '-U', 'postgres', '-d', 'sluice_read', '-v', 'ON_ERROR_STOP=1', '-c', sql]
  const said = await project.exec('postgres', psql)
  if (said.trim() !== 'DELETE 1') throw new ContainersError('unexpected_answer', `psql: ${said}`)
}

async function checkConnect(project: ComposeProject): Promise<void> {
  await project.up(['connect'])
  await project.healthy(['connect'])
  const response = await fetch(`${project.url('CONNECT_PORT')}/connector-plugins`, { signal })
  const plugins = await response.text()
  if (response.ok && plugins.includes('io.debezium.connector.postgresql')) return
  throw new ContainersError('unexpected_answer', `its plugins: ${response.status} ${plugins}`)
}

type Debezium = { project: ComposeProject; bank: BankClient; known: Known }

async function checkDebezium(checks: Checks, { project, bank, known }: Debezium): Promise<void> {
  await checks.must('RELAY_MODE=debezium, and a connector sends', async () => {
    await project.up(['outbox-relay'], { RELAY_MODE: 'debezium' })
    const sends = async () => {
      const { source } = (await bank.relay()).body as { source?: string }
      return source === 'debezium'
    }
    await waitUntil(sends, {
      what: 'a connector to send',
      deadlineMs: 90_000,
      intervalMs: 500,
      signal,
    })
  })
  await checkDeposit(checks, bank, known)
}

async function checkTests(checks: Checks): Promise<void> {
  checks.heading('The tests, on containers')
  await checks.must('the tests pass on containers', async () => {
    process.stdout.write(`  tests: ${await runTestsOnContainers(signal)}\n`)
  })
}

function neededImages(): string {
  const { services } = readComposeFile(process.env)
  const lines = Object.values(services).flatMap(({ image, build }) =>
    build === undefined ? [image] : Object.values(build.args).map((from) => `${from} for ${image}`),
  )
  const ryuk = process.env.TESTCONTAINERS_RYUK_DISABLED === 'true' ? [] : ['testcontainers/ryuk']
  return [...new Set([...lines, ...ryuk])].map((line) => `  ${line}`).join('\n')
}

function readArguments() {
  try {
    return parseArgs({
      options: {
        compose: { type: 'boolean', default: false },
        tests: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values
  } catch (cause) {
    throw new ContainersError('arguments_invalid', `${(cause as Error).message}\n\n${help}`, {
      cause,
    })
  }
}
