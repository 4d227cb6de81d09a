// Signed numbers as Kafka's records write them: zigzag (0, -1, 1, -2 ... become 0, 1, 2, 3 ...), then
// seven bits a byte, lowest first, the eighth bit set on every byte but the last.

/** How many bytes a signed 32-bit number takes: 1 to 5. */
export function varintBytes(value: number): number {
  const zigzag = ((value << 1) ^ (value >> 31)) >>> 0
  if (zigzag < 0x80) return 1
  if (zigzag < 0x4000) return 2
  if (zigzag < 0x20_0000) return 3
  return zigzag < 0x1000_0000 ? 4 : 5
}

/** Writes a signed 32-bit number; gives the place after it. */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  let rest = ((value << 1) ^ (value >> 31)) >>> 0
  let next = at
  for (; rest > 0x7f; rest >>>= 7) bytes[next++] = (rest & 0x7f) | 0x80
  bytes[next++] = rest
  return next
}

/** Reads a signed number of up to 64 bits. Throws a RangeError where it has no end. */
export function readVarint(bytes: Uint8Array, at: number): { value: bigint; next: number } {
  let zigzag = 0n
  for (let next = at, shift = 0n; shift < 70n; next += 1, shift += 7n) {
    const byte = bytes[next]
    if (byte === undefined) break
    zigzag |= BigInt(byte & 0x7f) << shift
    if (byte < 0x80) return { value: (zigzag >> 1n) ^ -(zigzag & 1n), next: next + 1 }
  }
  throw new RangeError(`no varint at byte ${at}`)
}
