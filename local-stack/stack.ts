// The package's face: what drills, benchmarks and tests of whole systems start and stop by hand.
// Every handle has `pid`, `stop()` and `kill(signal)`; everything started belongs to a data folder.
export { cacheFolder } from './config.ts'
export {
  connectJars,
  startConnect,
  type ConnectOptions,
  type ConnectWorker,
} from './connect/connect.ts'
export { openDataFolder, type DataFolder } from './data-folder.ts'
export { StackError, type StackErrorCode } from './errors.ts'
export { ensureJars, type JarSet } from './kafka/jars.ts'
export { findJava } from './kafka/java.ts'
export { startKafka, type Kafka, type KafkaOptions } from './kafka/kafka.ts'
export {
  ensureDatabase,
  startPostgres,
  type Postgres,
  type PostgresOptions,
} from './postgres/postgres.ts'
export { twoPostgresServers } from './postgres/server-count.ts'
export { startChild, type Child } from './processes/child.ts'
export { findFreePorts } from './processes/ports.ts'
export { supervise, type Death, type Supervised } from './processes/supervisor.ts'
export { ensureAccessKeys, openSecrets, type RoleName, type Secrets } from './secrets.ts'
export { asRole, wireServices, type Wiring } from './service-environments.ts'
export {
  nodeFlags,
  serviceNames,
  startService,
  superviseService,
  type ServiceName,
} from './services.ts'
export { waitUntil } from './wait-until.ts'
