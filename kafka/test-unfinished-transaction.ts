// A process of the tests: begins a transaction as the owner of a name, says that its record and its
// progress are sent, and waits to be killed.
import { kafkaClient } from './client.ts'

const [brokers = '', name = '', topic = '', groupId = '', key = ''] = process.argv.slice(2)
const client = kafkaClient({ brokers: brokers.split(','), clientId: name })
const producer = client.producer({
  transactionalId: name,
  idempotent: true,
  maxInFlightRequests: 1,
})
await producer.connect()
const transaction = await producer.transaction()
await transaction.send({ topic, messages: [{ key, value: 'unfinished', partition: 0 }] })
const partitions = [{ partition: 0, offset: '1000', metadata: '' }]
await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic, partitions }] })
process.stdout.write('sent\n')
setInterval(() => {}, 1_000)
