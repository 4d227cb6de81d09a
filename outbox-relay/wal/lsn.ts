/** A place in the write-ahead log, in bytes from its beginning. PostgreSQL writes it as `16/B374D848`. */
export type Lsn = bigint

const pattern = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i

/** Throws TypeError for anything else than two hexadecimal numbers of 32 bits. */
export function parseLsn(text: string): Lsn {
  const [, high, low] = pattern.exec(text) ?? []
  if (high === undefined || low === undefined) throw new TypeError(`not an LSN: ${text}`)
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)
}

export function formatLsn(lsn: Lsn): string {
  const hex = (part: bigint) => part.toString(16).toUpperCase()
  return `${hex(lsn >> 32n)}/${hex(lsn & 0xffff_ffffn)}`
}
