import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { openSteps, formatMs } from './steps.ts'
import { tryIt, tryLines, welcome } from './welcome.ts'

const options = {
  commandApiUrl: 'http://127.0.0.1:4010',
  queryApiUrl: 'http://127.0.0.1:4020',
  relayUrl: 'http://127.0.0.1:4030',
  accessKey: 'sluice_secret',
  logFolder: '/data/logs',
  dataAfterwards: 'the data stay in /data',
}

test('the lines to paste are what a shell reads without complaint', () => {
  expect(() => execFileSync('sh', ['-n'], { input: tryLines(options).join('\n') })).not.toThrow()
  expect(welcome(options)).toContain(`${tryIt}\n\n${tryLines(options).join('\n')}\n`)
})

test('without access keys the lines carry none', () => {
  const open = { ...options, accessKey: undefined }
  expect(tryLines(open).join('\n')).not.toMatch(/Authorization|key=/)
  expect(welcome(open)).not.toContain('key  ')
})

test('what becomes of the data is said', () => {
  expect(welcome(options)).toContain('Ctrl-C stops everything, and the data stay in /data; ')
})

function recorded(redraws: boolean) {
  const written: string[] = []
  let clock = 0
  const terminal = { write: (text: string) => void written.push(text), redraws, colours: false }
  const steps = openSteps(terminal, () => clock)
  return { steps, text: () => written.join(''), pass: (ms: number) => (clock += ms) }
}

test('a step is one line with its time, and in a file only that', async () => {
  const { steps, text, pass } = recorded(false)
  await steps.run('ports', async (step) => {
    step.progress('looking')
    pass(1_204)
    step.detail = 'all free'
  })
  expect(text()).toBe('  ✓ ports         all free  1,204 ms\n')
  expect(formatMs(7.4)).toBe('7 ms')
})

test('a long step says in a file from time to time how far it is', async () => {
  const { steps, text, pass } = recorded(false)
  await steps.run('Kafka', async (step) => {
    step.progress('1 file')
    pass(6_000)
    step.progress('100 files')
    pass(10)
    step.progress('101 files')
  })
  expect(text().split('\n').slice(0, -1)).toHaveLength(2)
  expect(text()).toContain('· Kafka         100 files\n')
})

test('a failed step is marked, and its error goes on', async () => {
  const { steps, text } = recorded(false)
  await expect(steps.run('Kafka', () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  expect(text()).toMatch(/✗ Kafka/)
})

test('on a terminal the line is drawn over until it is done', async () => {
  const { steps, text } = recorded(true)
  await steps.run('ports', async (step) => void (step.detail = 'free'))
  expect(text().split('\n')).toHaveLength(2)
  expect(text()).toContain('\r\x1b[2K  ✓ ports')
})
