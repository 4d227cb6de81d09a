import { pause } from 'service/backoff'
import { KafkaError } from './errors.ts'

/** The outcome of `work`, or `broker_silent` after `limitMs`. */
export async function within<T>(work: Promise<T>, limitMs: number, what: string): Promise<T> {
  const settled = new AbortController()
  const tooLate = pause(limitMs, settled.signal).then(() => {
    throw new KafkaError('broker_silent', `waited ${limitMs} ms in vain for ${what}`)
  })
  tooLate.catch(() => {})
  try {
    return await Promise.race([work, tooLate])
  } finally {
    settled.abort()
  }
}
