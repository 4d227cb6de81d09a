// The jars of Kafka and of Kafka Connect are fetched once and kept outside any data folder. A
// download goes into a folder of its own that is renamed when whole: one that was killed half-way is
// never taken for the whole.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { StackError } from '../errors.ts'
import { mavenCommand } from './java.ts'

/** What Maven can fetch as a whole. */
export type JarSet = {
  /** As it is said to people. */
  title: string
  /** Begins the name of its folder in the cache. */
  name: string
  pom: string
  megabytes: number
}

const kafkaJars: JarSet = {
  title: 'Kafka',
  name: 'kafka',
  pom: fileURLToPath(new URL('./pom.xml', import.meta.url)),
  megabytes: 45,
}
const abandonedAfterMs = 3_600_000

export type JarsOptions = {
  /** The broker's by default. */
  set?: JarSet
  cacheFolder: string
  environment: NodeJS.ProcessEnv
  /** Told how far the download is. */
  progress: (text: string) => void
  signal?: AbortSignal | undefined
}

/** Where the jars are, or will be: the folder's name changes with every change of the pom. */
export function jarsFolder(cacheFolder: string, { name, pom }: JarSet = kafkaJars): string {
  const version = createHash('sha256').update(readFileSync(pom)).digest('hex').slice(0, 12)
  return join(cacheFolder, `${name}-${version}`)
}

export function haveJars(cacheFolder: string, set: JarSet = kafkaJars): boolean {
  return existsSync(jarsFolder(cacheFolder, set))
}

/** The folder with the jars, downloaded by Maven when missing. Throws `jars_failed`. */
export async function ensureJars(options: JarsOptions): Promise<string> {
  const { cacheFolder, set = kafkaJars } = options
  const folder = jarsFolder(cacheFolder, set)
  if (existsSync(folder)) return folder
  mkdirSync(cacheFolder, { recursive: true })
  removeAbandoned(cacheFolder)
  const unfinished = mkdtempSync(join(cacheFolder, '.download-'))
  try {
    await download(unfinished, set, options)
    renameSync(unfinished, folder)
  } catch (error) {
    // Somebody else's download may have been there first; then ours is not needed.
    if (!existsSync(folder)) throw error
  } finally {
    rmSync(unfinished, { recursive: true, force: true })
  }
  return folder
}

/** Counts what Maven says it fetched, in its own words: `Downloaded from central: ... (18 kB at 9 kB/s)`. */
export function downloadCounter(title = 'Kafka'): (line: string) => string | undefined {
  let files = 0
  let kilobytes = 0
  return (line) => {
    const [, amount, unit] = /^\[INFO\] Downloaded from .*\(([\d.]+) (B|kB|MB) at /.exec(line) ?? []
    if (amount === undefined) return undefined
    files++
    kilobytes += Number(amount) * (unit === 'MB' ? 1_000 : unit === 'kB' ? 1 : 0.001)
    return `downloading ${title} by Maven: ${files} files, ${(kilobytes / 1_000).toFixed(1)} MB`
  }
}

async function download(target: string, set: JarSet, options: JarsOptions): Promise<void> {
  const { environment, progress, signal } = options
  progress(`downloading ${set.title} by Maven (about ${set.megabytes} MB, once)`)
  const goal = 'dependency:copy-dependencies'
  const args = [
    '-B',
    '-Dstyle.color=never',
    '-f',
    set.pom,
    goal,
    '-DincludeScope=runtime',
    `-DoutputDirectory=${target}`,
  ]
  const maven = spawn(mavenCommand, args, {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const stop = () => maven.kill('SIGTERM')
  signal?.addEventListener('abort', stop)
  const ended = new Promise<string | undefined>((resolve) => {
    maven.once('error', (error) => resolve(error.message))
    maven.once('close', (code, killed) =>
      resolve(code === 0 ? undefined : (killed ?? `exit code ${code}`)),
    )
  })
  const count = downloadCounter(set.title)
  const last: string[] = []
  const read = (line: string) => {
    const text = count(line)
    if (text !== undefined) progress(text)
    else if (last.push(line) > 15) last.shift()
  }
  for (const input of [maven.stdout, maven.stderr]) createInterface({ input }).on('line', read)
  const failure = await ended
  signal?.removeEventListener('abort', stop)
  signal?.throwIfAborted()
  if (failure === undefined && readdirSync(target).some((name) => name.endsWith('.jar'))) return
  throw new StackError(
    'jars_failed',
    `Maven could not fetch ${set.title} (${failure ?? 'no jars came'}); its last words:\n${last.join('\n')}`,
  )
}

function removeAbandoned(cacheFolder: string): void {
  for (const name of readdirSync(cacheFolder)) {
    const path = join(cacheFolder, name)
    if (!name.startsWith('.download-')) continue
    const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now())
    if (age > abandonedAfterMs) rmSync(path, { recursive: true, force: true })
  }
}
