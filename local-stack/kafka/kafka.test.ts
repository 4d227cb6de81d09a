import {
  existsSync,
  mkdtempSync,
  mkdirSync,
  readdirSync,
  rmSync,
  writeFileSync,
  chmodSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { kafkaVariable } from '../containers.ts'
import { downloadCounter, ensureJars, haveJars, jarsFolder } from './jars.ts'
import { javaVersion } from './java.ts'
import { newClusterId, serverProperties } from './kafka.ts'

test('the version of Java is read in its old and new spelling', () => {
  expect(javaVersion('openjdk version "17.0.15" 2025-04-15\n')).toBe(17)
  expect(javaVersion('openjdk version "21" 2023-09-19')).toBe(21)
  expect(javaVersion('java version "1.8.0_392"')).toBe(8)
  expect(javaVersion('The operation couldn’t be completed. Unable to locate a Java Runtime.')).toBe(
    undefined,
  )
})

test('clients are told the proxy’s port, and the broker listens on its own', () => {
  const ports = { port: 9001, controllerPort: 9002, advertisedPort: 9100 }
  const text = serverProperties({ ...ports, properties: { 'log.retention.ms': 5 } }, '/data')
  expect(text).toContain('listeners=PLAINTEXT://127.0.0.1:9001,CONTROLLER://127.0.0.1:9002\n')
  expect(text).toContain('advertised.listeners=PLAINTEXT://127.0.0.1:9100\n')
  expect(text).toContain('log.retention.ms=5\n')
  expect(text).toContain('auto.create.topics.enable=false\n')
})

test('a cluster id never begins with a dash, which the tool would take for an option', () => {
  const drawn = [Buffer.alloc(16, 0xf8), Buffer.alloc(16, 1)]
  expect(Buffer.alloc(16, 0xf8).toString('base64url')).toMatch(/^-/)
  expect(newClusterId(() => drawn.shift() ?? Buffer.alloc(16))).toBe('AQEBAQEBAQEBAQEBAQEBAQ')
})

test('properties become the image’s variables and back', () => {
  expect(kafkaVariable('log.dirs')).toBe('KAFKA_LOG_DIRS')
  expect(kafkaVariable('a_b-c.d')).toBe('KAFKA_A__B___C_D')
})

describe('the download', () => {
  let folder: string
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'sluice-jars-'))))
  afterEach(() => rmSync(folder, { recursive: true }))

  /** A program of the name mvn: what matters here is what we make of its output and its end. */
  function pathWithMaven(script: string): NodeJS.ProcessEnv {
    const bin = join(folder, 'bin')
    mkdirSync(bin)
    const find = 'for a in "$@"; do case $a in -DoutputDirectory=*) out=${a#*=};; esac; done'
    writeFileSync(join(bin, 'mvn'), `#!/bin/sh\n${find}\n${script}\n`)
    chmodSync(join(bin, 'mvn'), 0o755)
    return { ...process.env, PATH: `${bin}:${process.env.PATH}` }
  }
  const cache = () => join(folder, 'cache')
  const fetch = (environment: NodeJS.ProcessEnv, progress: (text: string) => void = () => {}) =>
    ensureJars({ cacheFolder: cache(), environment, progress })

  test('is counted in files and megabytes', () => {
    const count = downloadCounter()
    const from = (size: string) =>
      `[INFO] Downloaded from central: https://x/y.jar (${size} at 9 kB/s)`
    expect(count('[INFO] Downloading from central: https://x/y.jar')).toBeUndefined()
    expect(count(from('18 kB'))).toContain('1 files, 0.0 MB')
    expect(count(from('2.6 MB'))).toContain('2 files, 2.6 MB')
  })

  test('is taken when it is whole, with its progress told', async () => {
    const said: string[] = []
    const line = '[INFO] Downloaded from central: https://x/a.jar (1.0 MB at 9 kB/s)'
    const environment = pathWithMaven(`echo '${line}'; touch "$out/a.jar"`)
    expect(await fetch(environment, (text) => said.push(text))).toBe(jarsFolder(cache()))
    expect(said.at(-1)).toContain('1 files, 1.0 MB')
    expect(readdirSync(jarsFolder(cache()))).toEqual(['a.jar'])
    expect(readdirSync(cache())).toHaveLength(1)
  })

  test('that failed leaves nothing that could be taken for the jars, and says why', async () => {
    const failing = pathWithMaven('touch "$out/a.jar"; echo "no network here"; exit 1')
    await expect(fetch(failing)).rejects.toMatchObject({
      code: 'jars_failed',
      message: expect.stringContaining('no network here'),
    })
    expect(haveJars(cache())).toBe(false)
    expect(readdirSync(cache())).toEqual([])
  })

  test('that ended well but brought nothing is a failure too', async () => {
    await expect(fetch(pathWithMaven('exit 0'))).rejects.toMatchObject({ code: 'jars_failed' })
    expect(existsSync(jarsFolder(cache()))).toBe(false)
  })
})
