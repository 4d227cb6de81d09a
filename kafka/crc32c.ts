// CRC-32C (Castagnoli), reflected, as a record batch carries it. Eight bytes a step: eight tables,
// one for each distance from the end of the step. Node's zlib has only the other CRC-32.

const polynomial = 0x82f63b78
const tables = makeTables()

/** The checksum of `bytes` from `start` up to `end`, as an unsigned 32-bit number. */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length): number {
  const table = tables
  let crc = -1
  let at = start
  for (const last = end - 8; at <= last; at += 8) {
    const low =
      crc ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24))
    crc =
      table[1792 + (low & 255)]! ^
      table[1536 + ((low >>> 8) & 255)]! ^
      table[1280 + ((low >>> 16) & 255)]! ^
      table[1024 + (low >>> 24)]! ^
      table[768 + bytes[at + 4]!]! ^
      table[512 + bytes[at + 5]!]! ^
      table[256 + bytes[at + 6]!]! ^
      table[bytes[at + 7]!]!
  }
  for (; at < end; at += 1) crc = table[(crc ^ bytes[at]!) & 255]! ^ (crc >>> 8)
  return ~crc >>> 0
}

/** Table n, at n * 256, has the checksum of each byte with n zero bytes after it. */
function makeTables(): Int32Array {
  const all = new Int32Array(8 * 256)
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1
    all[byte] = crc
  }
  for (let at = 256; at < all.length; at += 1) {
    const before = all[at - 256]!
    all[at] = all[before & 255]! ^ (before >>> 8)
  }
  return all
}
