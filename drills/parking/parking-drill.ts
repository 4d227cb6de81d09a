import type { AtRest } from '../at-rest.ts'
import { requireNothingLeft } from '../left-behind.ts'
import type { Load } from '../load.ts'
import { patchEnvironment } from '../service-process.ts'
import type { SourcePatch } from '../source-patch.ts'
import { ask } from '../sql.ts'
import { DrillStack, topic } from '../stack.ts'
import { ArmedPlace } from '../switching/armed-place.ts'
import type { Signal } from '../switching/cases.ts'
import type { Mode } from '../switching/places.ts'
import { Relays } from '../switching/relays.ts'
import { type Act, withSignal } from '../switching/switching-drill.ts'
import { setLargest, usualLargest } from '../topic-reader.ts'
import { underLoad } from '../under-load.ts'
import { atReadAhead, parkingAndReleasing, placesOfParking, placesOfRelease } from './places.ts'

// Poison under load: events that Kafka does not take, of accounts that get more of them all the time. Each
// is to stop its own account and no other; released, everything is to come in its order, whoever dies.

export type ParkingCase = { mode: Mode; place: string; signal: Signal }
export type ParkingResult = AtRest & { cases: { name: string; error?: string }[] }

type Options = { seed: number; folder: string | undefined; say: (line: string) => void }
type Drilled = { stack: DrillStack; relays: Relays; armed: ArmedPlace; load: Load }

const commandsPerSecond = 300
/** Each has two events that are too large, of two accounts. */
const poisonedTransfers = 4

const describe = ({ mode, place, signal }: ParkingCase) => `${mode}, ${signal} ${place}`

const isOfParking = (place: string) => placesOfParking.some((each) => each === place)

export function casesOf(only: string | undefined): ParkingCase[] {
  return (['polling', 'wal'] as const)
    .flatMap((mode) =>
      [...placesOfParking, ...placesOfRelease].flatMap((place) =>
        (['SIGKILL', 'SIGSTOP'] as const).map((signal) => ({ mode, place, signal })),
      ),
    )
    .filter((each) => describe(each).includes(only ?? ''))
}

export function runParking(
  cases: readonly ParkingCase[],
  options: Options,
): Promise<ParkingResult> {
  return withRelays({ patches: parkingAndReleasing, settings: {} }, options, async (drilled) => {
    const results: ParkingResult['cases'] = []
    for (const [n, each] of cases.entries()) {
      const name = describe(each)
      const error = await runCase(drilled, each).catch((cause: Error) => cause.message)
      options.say(`${n + 1}/${cases.length} ${name}: ${error ?? 'parked and released'}`)
      results.push({ name, ...(error === undefined ? {} : { error }) })
    }
    return results
  })
}

/** What is to be held is decided when a batch is read, and not when it is sent. */
export function runAtReadAhead(options: Options): Promise<ParkingResult> {
  const settings = { RELAY_BATCH_ROWS: '20' }
  return withRelays({ patches: atReadAhead, settings }, options, async (drilled) => {
    for (let times = 0; times < 3; times += 1) {
      await isDone(parks(drilled))
      await isDone(releases(drilled))
      await setLargest(drilled.stack.brokers, topic, usualLargest)
    }
    return []
  })
}

async function withRelays(
  { patches, settings }: { patches: readonly SourcePatch[]; settings: Record<string, string> },
  { seed, folder, say }: Options,
  work: (drilled: Drilled) => Promise<ParkingResult['cases']>,
): Promise<ParkingResult> {
  using armed = new ArmedPlace()
  const relay = { ...patchEnvironment(patches, 0), ...armed.environment, ...settings }
  await using stack = await DrillStack.start({ folder, environment: { 'outbox-relay': relay } })
  await stack.secondRelay.start()
  const relays = new Relays(stack)
  const load = { seed, commandsPerSecond, say }
  const { result, ...atRest } = await underLoad(stack, load, (under) =>
    work({ stack, relays, armed, load: under }),
  )
  return { ...atRest, cases: result }
}

async function runCase(drilled: Drilled, { mode, place, signal }: ParkingCase): Promise<undefined> {
  const { stack, relays, armed } = drilled
  try {
    await relays.switchTo(mode)
    await relays.arrives(mode)
    const met = { place, signal }
    if (isOfParking(place)) {
      await withSignal(drilled, met, parks(drilled))
      await isDone(releases(drilled))
    } else {
      await isDone(parks(drilled))
      await withSignal(drilled, met, releases(drilled))
    }
    await requireNothingLeft(stack)
  } catch (error) {
    armed.disarm()
    for (const each of [stack.services['outbox-relay'], stack.secondRelay]) each.kill('SIGCONT')
    throw error
  } finally {
    await setLargest(stack.brokers, topic, usualLargest)
  }
}

/** Some accounts are parked, have more events, and everything else goes on. */
function parks({ stack, relays, load }: Drilled): Act {
  let accounts: string[] = []
  return {
    async act() {
      accounts = await load.poison(poisonedTransfers)
    },
    async arrives() {
      await relays.parks(`${accounts.length} parked accounts`, (n) => n >= accounts.length)
      const [drawn] = await ask<{ last: string }>(
        stack.writeUrl,
        `select pg_sequence_last_value('outbox.events_position_seq')::text as last`,
      )
      await relays.publishes(BigInt(drawn?.last ?? 0))
    },
  }
}

function releases({ stack, relays }: Drilled): Act {
  return {
    async act() {
      await setLargest(stack.brokers, topic, 4_000_000)
      await relays.retryAll()
    },
    arrives: () => relays.parks('the end of all parking', (aggregates) => aggregates === 0),
  }
}

async function isDone({ act, arrives }: Act): Promise<void> {
  await act()
  await arrives()
}
