const seed = 0x9747b28c
const multiplier = 0x5bd1e995

/**
 * The partition that Kafka's default partitioner gives a key: murmur2 of its UTF-8 bytes, sign bit
 * cleared, modulo the number of partitions. The same in Java, kafkajs and here.
 */
export function partitionOf(key: string | Buffer, partitions: number): number {
  const bytes = typeof key === 'string' ? Buffer.from(key) : key
  return (murmur2(bytes) & 0x7fffffff) % partitions
}

/** As `partitionOf`, for many keys one after the other: it keeps its memory for their bytes. */
export class Partitioner {
  readonly #bytes = Buffer.allocUnsafe(1_024)

  partitionOf(key: string, partitions: number): number {
    // No UTF-16 unit takes more than three bytes.
    if (key.length * 3 > this.#bytes.length) return partitionOf(key, partitions)
    return (murmur2(this.#bytes, this.#bytes.write(key)) & 0x7fffffff) % partitions
  }
}

/** Kafka's variant of murmur2, as a signed 32-bit number; Math.imul keeps it to 32 bits. */
function murmur2(bytes: Buffer, length = bytes.length): number {
  let hash = seed ^ length
  let at = 0
  for (; at + 4 <= length; at += 4) {
    let word = Math.imul(bytes.readInt32LE(at), multiplier)
    word ^= word >>> 24
    hash = Math.imul(hash, multiplier) ^ Math.imul(word, multiplier)
  }
  if (at < length) {
    for (let rest = length - 1; rest >= at; rest -= 1) {
      hash ^= (bytes[rest] ?? 0) << (8 * (rest - at))
    }
    hash = Math.imul(hash, multiplier)
  }
  hash ^= hash >>> 13
  hash = Math.imul(hash, multiplier)
  return hash ^ (hash >>> 15)
}
