import { exitLoudly } from 'service/stop'
import { readConfig } from './config.ts'
import { migrate } from './migrate.ts'

try {
  await migrate({ ...readConfig(), report: (line) => process.stdout.write(`migrate: ${line}\n`) })
  process.stdout.write('migrate: done\n')
} catch (error) {
  exitLoudly(error)
}
