import { openProducer } from './producer.ts'
import { producerConformance } from './producer-conformance.ts'

producerConformance(openProducer)
