import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { findJava } from 'local-stack'
import { expect, test } from 'vitest'

// The harness itself, as a person runs it: a part of the faults, and the controls.

const main = fileURLToPath(new URL('./main.ts', import.meta.url))

test.skipIf('missing' in findJava(process.env))(
  'the smoke drill passes, and its controls are caught',
  async () => {
    const drill = spawn(process.execPath, [main, '--smoke'], { stdio: ['ignore', 'pipe', 'pipe'] })
    const said: string[] = []
    for (const stream of [drill.stdout, drill.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => void said.push(text))
    }
    const [code] = (await once(drill, 'exit')) as [number | null]
    // The whole report, when it fails.
    expect(code === 0 ? 'PASSED' : said.join('')).toBe('PASSED')
  },
  900_000,
)
