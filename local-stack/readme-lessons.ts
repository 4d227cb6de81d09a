// The commands of README.md's section "Try it", run as they stand against a running system: what a
// newcomer pastes is what is tested. Only addresses and the key are put in place of README's own.
import { execFileSync } from 'node:child_process'

/** A block of commands, and the JSON that is shown below it as part of what it prints. */
export type Lesson = { commands: string; shown: object | undefined }

export type LessonPlace = {
  /** By README's ports: `{ 4010: '127.0.0.1:41234' }`. */
  addresses: Readonly<Record<number, string>>
  key: string
}

const divider = '=== next lesson ==='

/** The `sh` blocks of a section in order, each with the `json` block that follows it. */
export function lessonsOf(readme: string, section: string): Lesson[] {
  const text = readme.split(/^## /m).find((part) => part.startsWith(section)) ?? ''
  const blocks = [...text.matchAll(/```(sh|json)\n([\s\S]*?)```/g)]
  return blocks.flatMap(([, kind, body = ''], index) => {
    if (kind !== 'sh') return []
    const [, nextKind, nextBody = ''] = blocks[index + 1] ?? []
    return [{ commands: body, shown: nextKind === 'json' ? JSON.parse(nextBody) : undefined }]
  })
}

/** What each lesson prints, all of them in one shell, so that variables last. */
export function runLessons(lessons: readonly Lesson[], { addresses, key }: LessonPlace): string[] {
  const script = lessons
    .map(({ commands }) => commands)
    .join(`echo; echo '${divider}'\n`)
    .replace(/^KEY=.*$/m, `KEY=${key}`)
    .replaceAll(/localhost:(\d+)/g, (whole, port: string) => addresses[Number(port)] ?? whole)
  const output = execFileSync('bash', ['-euo', 'pipefail', '-c', script], { encoding: 'utf8' })
  return output.split(divider).map((text) => text.trim())
}
