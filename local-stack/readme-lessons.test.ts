import { expect, test } from 'vitest'
import { lessonsOf, runLessons } from './readme-lessons.ts'

const readme = `
## Before
\`\`\`sh
exit 1
\`\`\`
## Try it
\`\`\`sh
KEY=sluice_...
\`\`\`
\`\`\`sh
echo "{\\"key\\": \\"$KEY\\", \\"at\\": \\"localhost:4010\\"}"
\`\`\`
\`\`\`json
{ "key": "mine" }
\`\`\`
## After
`

test('takes the blocks of one section, with what is shown below each', () => {
  const lessons = lessonsOf(readme, 'Try it')
  expect(lessons.map(({ shown }) => shown)).toEqual([undefined, { key: 'mine' }])
})

test('runs them in one shell, at the addresses and with the key given', () => {
  const place = { addresses: { 4010: '127.0.0.1:5' }, key: 'mine' }
  const [, printed = ''] = runLessons(lessonsOf(readme, 'Try it'), place)
  expect(JSON.parse(printed)).toEqual({ key: 'mine', at: '127.0.0.1:5' })
})

test('fails when a command fails', () => {
  const lessons = [{ commands: 'false\n', shown: undefined }]
  expect(() => runLessons(lessons, { addresses: {}, key: '' })).toThrow('Command failed')
})
