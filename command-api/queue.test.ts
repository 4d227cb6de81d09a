import { describe, expect, it } from 'vitest'
import type { Unit } from './batch.ts'
import { Queue } from './queue.ts'

const unitOn = (account: string, commands = 1) =>
  Array.from({ length: commands }, () => ({ command: { accountId: account } })) as unknown as Unit

/** A queue in which units wait, given as `account` or `account*commands`, in order of arrival. */
function queueOf(...units: string[]) {
  const queue = new Queue<{ unit: Unit; arrival: number; name: string }>()
  for (const [arrival, name] of units.entries()) {
    const [account = '', commands = '1'] = name.split('*')
    queue.push({ unit: unitOn(account, Number(commands)), arrival, name: `${name} ${arrival}` })
  }
  return { queue, take: (limit: number) => queue.take(limit).map(({ name }) => name) }
}

describe('the queue of commands', () => {
  it('gives everything in order of arrival when it fits', () => {
    const { queue, take } = queueOf('a', 'a', 'b', 'a', 'c')
    expect(take(5)).toEqual(['a 0', 'a 1', 'b 2', 'a 3', 'c 4'])
    expect([queue.length, take(5)]).toEqual([0, []])
  })

  it('gives each account its turn, however many wait for one', () => {
    const { queue, take } = queueOf('a', 'a', 'a', 'a', 'a', 'b', 'c', 'c')
    expect(take(3)).toEqual(['a 0', 'b 5', 'c 6'])
    expect([
      queue.length,
      queue.lengthBefore(unitOn('a')),
      queue.lengthBefore(unitOn('b')),
    ]).toEqual([5, 4, 0])
    expect(take(3)).toEqual(['a 1', 'a 2', 'c 7'])
    expect(take(3)).toEqual(['a 3', 'a 4'])
  })

  it('begins the next turn where the last one ended', () => {
    const { take } = queueOf('a', 'a', 'b', 'b', 'c', 'c')
    expect([take(2), take(2), take(2)]).toEqual([
      ['a 0', 'b 2'],
      ['a 1', 'c 4'],
      ['b 3', 'c 5'],
    ])
  })

  it('keeps within the number of commands, but for a first unit that is larger', () => {
    const { take } = queueOf('a*3', 'b*2', 'c*9', 'd')
    expect([take(4), take(4), take(4), take(4)]).toEqual([['a*3 0'], ['b*2 1'], ['c*9 2'], ['d 3']])
  })
})
