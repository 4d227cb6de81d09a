import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const oldestJava = 17

export const mavenCommand = 'mvn'

/** A Java that can run Kafka, or why there is none, as the end of "no usable Java: ...". */
export function findJava(environment: NodeJS.ProcessEnv): { java: string } | { missing: string } {
  const home = environment.JAVA_HOME
  const candidates = home === undefined || home === '' ? ['java'] : [join(home, 'bin/java'), 'java']
  const refused: string[] = []
  for (const java of candidates) {
    const { status, stderr } = run(java, ['-version'], environment)
    const version = status === 0 ? javaVersion(stderr) : undefined
    if (version !== undefined && version >= oldestJava) return { java }
    if (version !== undefined) refused.push(`${java} is version ${version}`)
    else refused.push(java === 'java' ? 'no java on PATH' : `${java} does not run`)
  }
  return { missing: refused.join(', ') }
}

export function hasMaven(environment: NodeJS.ProcessEnv): boolean {
  return run(mavenCommand, ['--version'], environment).status === 0
}

/** The major version that `java -version` prints: 17 of `"17.0.15"`, 8 of `"1.8.0_392"`. */
export function javaVersion(printed: string): number | undefined {
  const [, first, second] = /version "(\d+)(?:\.(\d+))?/.exec(printed) ?? []
  if (first === undefined) return undefined
  return Number(first === '1' && second !== undefined ? second : first)
}

function run(command: string, args: string[], env: NodeJS.ProcessEnv) {
  return spawnSync(command, args, { env, encoding: 'utf8', timeout: 20_000 })
}
