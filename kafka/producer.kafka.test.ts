import { clusterConformance, onTestCluster } from './cluster-conformance.ts'
import { openProducer } from './producer.ts'
import { producerConformance } from './producer-conformance.ts'

producerConformance(openProducer)
onTestCluster((cluster) => clusterConformance(openProducer, cluster))
