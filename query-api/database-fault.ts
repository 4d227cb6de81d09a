const passingClasses = new Set(['08', '40', '53', '57', '58'])
// Lock timeout, idle transaction cut, and a standby that has not been promoted yet.
const passingCodes = new Set(['55P03', '25P03', '25006'])
const passingSystemCodes =
  /^(ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|transaction_timeout)$/
// The driver gives its own failures no code.
const passingMessages =
  /^(Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error|Client was closed)/

/**
 * What an error of Postgres calls for: `passing` goes by itself (away, deadlock, serialization, no
 * room), `data` is about the values given, and `lasting` needs a person (rights, schema, a bug).
 */
export function databaseFault(error: unknown): 'passing' | 'data' | 'lasting' {
  if (!(error instanceof Error)) return 'lasting'
  const { code } = error as { code?: unknown }
  if (typeof code !== 'string') return passingMessages.test(error.message) ? 'passing' : 'lasting'
  if (passingSystemCodes.test(code) || passingCodes.has(code)) return 'passing'
  if (!/^[0-9A-Z]{5}$/.test(code)) return 'lasting'
  if (passingClasses.has(code.slice(0, 2))) return 'passing'
  // 54: a value too deep or too long for what the server does with it.
  return /^(2[23]|54)/.test(code) ? 'data' : 'lasting'
}
