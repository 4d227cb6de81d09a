// A process of the tests: builds states as the product does, except that it says when it is about to
// write, and does so only when told to go on.
import { once } from 'node:events'
import { openLog } from 'service/log'
import { stopSignal } from 'service/stop'
import { newStatus } from '../status.ts'
import { runAccountState, type Tombstones } from './builder.ts'

const [brokers = '', from = '', to = '', groupId = '', hesitant = ''] = process.argv.slice(2)

const hesitating: Tombstones = {
  async of() {
    process.stdout.write('about to write\n')
    await once(process.stdin, 'data')
    return { due: [], through: new Map() }
  },
  async written() {},
}

await runAccountState({
  brokers: brokers.split(','),
  status: newStatus('account-state', { topic: from, groupId }),
  topic: to,
  signal: stopSignal(),
  log: openLog('query-api', 'info'),
  ...(hesitant === 'hesitant' ? { tombstones: hesitating } : {}),
})
