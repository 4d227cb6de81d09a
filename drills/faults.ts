import { waitUntil } from 'local-stack'
import { pause } from 'service/backoff'
import { killPoints, type KillPoint } from './kill-points.ts'
import type { Random } from './random.ts'
import { contradictRows, skipEvents } from './read-faults.ts'
import { ask } from './sql.ts'
import { type DrillStack, type LineName, lineNames } from './stack.ts'
import type { NetworkFault } from './tcp-proxy.ts'

/** One more account is opened, with nothing on it, and touched by nobody again; gives its name. */
type Probe = (limitMs: number) => Promise<string>

/**
 * Something bad that is done to the stack. Resolves when it is healed, from when on it recovers; where
 * that was earlier it gives when, in monotonic milliseconds.
 */
export type Fault = {
  /** Under which the report counts it. */
  kind: string
  /** What exactly, for the log. */
  detail: string
  inflict(stack: DrillStack, probe: Probe): Promise<number | void>
}

function killAtRandom(service: 'outbox-relay' | 'command-api' | 'query-api'): Fault {
  return {
    kind: `${service} killed at random`,
    detail: '',
    inflict: (stack) => stack.services[service].killHard(),
  }
}

/** Not at any moment: right after a produce request has left, which the kill leaves unconfirmed. */
function killInFlight(): Fault {
  return {
    kind: 'outbox-relay killed with a batch in flight',
    detail: '',
    inflict: killRelayInFlight,
  }
}

async function killRelayInFlight(stack: DrillStack): Promise<void> {
  const line = stack.lines['relay-kafka']
  const limit = AbortSignal.timeout(10_000)
  // A record is larger than any request that only asks; between two looks hardly two pass.
  for (let before = line.requestBytes; !limit.aborted; before = line.requestBytes) {
    await pause(1)
    if (line.requestBytes > before + 300) return stack.services['outbox-relay'].killHard()
  }
  throw new Error('the relay sent nothing for 10 s')
}

/** Starts the service anew with a point that ends it at its nth passing, and waits for that. */
function killAtPoint({ name, service, patch }: KillPoint, hits: number): Fault {
  return {
    kind: `${service} killed ${name}`,
    // A relay comes by that one once, as it ends.
    detail: name === 'during shutdown' ? '' : `passing ${hits}`,
    async inflict(stack) {
      const target = stack.services[service]
      target.patchNext([patch], hits)
      const before = target.endings.length + 1
      if (service === 'outbox-relay') await killRelayInFlight(stack)
      else await target.restart()
      if (name === 'during shutdown') {
        await target.answers()
        await leads(stack)
        // One that has not begun to publish has nothing to finish.
        const { next } = await standing(stack)
        await waitUntil(async () => (await standing(stack)).next > next, {
          what: 'the relay to publish',
          deadlineMs: 15_000,
        })
        target.kill('SIGTERM')
      }
      await target.endingsReach(before + 1)
      const ending = target.endings[before]
      if (ending?.signal === 'SIGKILL') return
      throw new Error(`${service} was to be killed ${name} and ended with code ${ending?.code}`)
    },
  }
}

/** The request reaches Kafka, its answer never comes back, and the relay is killed waiting for it. */
function killAwaitingAck(): Fault {
  return {
    kind: 'outbox-relay killed after produce, before ack',
    detail: '',
    async inflict(stack) {
      const line = stack.lines['relay-kafka']
      line.begin({ kind: 'answers-dropped' })
      const before = line.requestBytes
      // None may come: where one was on its way already, its answer is what is dropped.
      const limit = AbortSignal.timeout(1_000)
      while (line.requestBytes < before + 500 && !limit.aborted) await pause(2)
      await pause(20)
      await stack.services['outbox-relay'].killHard()
      line.heal()
    },
  }
}

function killKafka(awayMs: number): Fault {
  return {
    kind: awayMs > 1_000 ? 'Kafka away' : 'Kafka killed',
    detail: `${awayMs} ms`,
    async inflict(stack) {
      await stack.kafka.kill()
      await pause(awayMs)
      await stack.kafka.startAgain()
    },
  }
}

function killPostgres(): Fault {
  return { kind: 'PostgreSQL killed', detail: '', inflict: (stack) => stack.bouncePostgres() }
}

/** The leader sleeps beyond its lease, another leads and publishes, and the old one wakes up. */
function pauseLeader(ms: number): Fault {
  return {
    kind: 'relay paused, another leads',
    detail: `${ms} ms`,
    async inflict(stack) {
      const [first, second] = [stack.services['outbox-relay'], stack.secondRelay]
      await second.start()
      try {
        await leads(stack)
        const before = await standing(stack)
        first.kill('SIGSTOP')
        await pause(ms)
        const after = await standing(stack)
        first.kill('SIGCONT')
        const healedMs = performance.now()
        await pause(1_500)
        if (after.epoch > before.epoch && after.next > before.next) return healedMs
        throw new Error(`nobody took over from a relay that was paused for ${ms} ms`)
      } finally {
        await second.stop()
      }
    },
  }
}

function badLine(line: LineName, fault: NetworkFault, ms: number): Fault {
  const { kind, ...measures } = fault
  const measured = Object.entries(measures).map(([name, value]) => `${name} ${value}`)
  return {
    kind: `line ${kind}`,
    detail: [line, `${ms} ms`, ...measured].join(', '),
    async inflict(stack) {
      stack.lines[line].begin(fault)
      await pause(ms)
      stack.lines[line].heal()
    },
  }
}

const networkFaults = (random: Random): NetworkFault[] => [
  { kind: 'cut' },
  { kind: 'half-open' },
  { kind: 'answers-dropped' },
  { kind: 'latency', delayMs: random.between(50, 300) },
  { kind: 'slow', bytesPerSecond: 10_000 },
  { kind: 'reset-mid-frame', afterBytes: random.between(10, 2_000) },
]

const times = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make)

/** What is done in one run, in its order; all of it follows from the seed. */
export function schedule(random: Random, size: 'smoke' | 'standard'): Fault[] {
  const whole = size === 'standard'
  const count = (standard: number, smoke: number) => (whole ? standard : smoke)
  // To arm a point the relay is killed once before: each counts twice.
  const points = killPoints.flatMap((point) =>
    times(point.service === 'outbox-relay' ? 2 : count(2, 1), () =>
      killAtPoint(point, random.between(3, 40)),
    ),
  )
  const lines = networkFaults(random).flatMap((fault) => {
    const silent = fault.kind === 'half-open' || fault.kind === 'answers-dropped'
    const some = whole ? lineNames : [random.pick(silent ? quickWhenSilent : busyLines)]
    return some.map((line) => badLine(line, fault, random.between(1_500, 3_000)))
  })
  return random.shuffled([
    ...points,
    ...lines,
    ...times(count(6, 1), killInFlight),
    ...times(count(4, 1), () => killAtRandom('outbox-relay')),
    ...times(count(3, 2), killAwaitingAck),
    ...times(count(4, 1), () => killAtRandom('query-api')),
    ...times(count(4, 1), () => killAtRandom('command-api')),
    ...times(count(3, 1), () => killKafka(0)),
    ...times(count(3, 1), killPostgres),
    ...times(count(2, 1), () => pauseLeader(random.between(2_500, 4_000))),
    killKafka(count(30_000, 5_000)),
    skipEvents(),
    contradictRows(),
  ])
}

const busyLines: readonly LineName[] = ['relay-kafka', 'relay-postgres', 'command-postgres']
/** Whose clients notice within seconds that nobody answers; the others take up to a minute. */
const quickWhenSilent: readonly LineName[] = ['relay-postgres', 'command-postgres']

async function standing({ writeUrl }: DrillStack): Promise<{ epoch: number; next: number }> {
  const text = 'select epoch::float8 as epoch, next_position::float8 as next from outbox.relay'
  const [row] = await ask<{ epoch: number; next: number }>(writeUrl, text)
  if (row === undefined) throw new Error('outbox.relay has no row')
  return row
}

/** Resolves once the lease is renewed, whoever has it. */
async function leads({ writeUrl }: DrillStack): Promise<void> {
  const renewal = async () => {
    const rows = await ask<{ leader: string | null; renewal: string }>(
      writeUrl,
      'select leader, renewal from outbox.relay',
    )
    return rows[0]?.leader === null ? undefined : rows[0]?.renewal
  }
  const limit = AbortSignal.timeout(15_000)
  for (let before = await renewal(); !limit.aborted;) {
    await pause(100)
    const now = await renewal()
    if (now !== undefined && before !== undefined && now !== before) return
    before ??= now
  }
  throw new Error('no relay leads')
}
