export type WelcomeOptions = {
  commandApiUrl: string
  queryApiUrl: string
  relayUrl: string
  /** undefined while AUTH is off. */
  accessKey: string | undefined
  logFolder: string
  /** What becomes of the data when it stops, as the end of "..., and". */
  dataAfterwards: string
}

/** What to do with a system that runs. The lines after `Try it` can be pasted into a shell. */
export function welcome(options: WelcomeOptions): string {
  const { commandApiUrl, queryApiUrl, relayUrl, accessKey, logFolder } = options
  return [
    '',
    `commands  ${commandApiUrl}`,
    `queries   ${queryApiUrl}`,
    `relay     ${relayUrl}/relay`,
    ...(accessKey === undefined ? [] : [`key       ${accessKey}`]),
    `logs      ${logFolder}`,
    '',
    tryIt,
    '',
    ...tryLines(options),
    '',
    `Ctrl-C stops everything, and ${options.dataAfterwards}; a second Ctrl-C kills.`,
  ].join('\n')
}

export const tryIt = 'Try it: open an account, deposit, read what was written'

/** Shell lines that open an account, deposit into it, and read it with the deposit's token. */
export function tryLines({ commandApiUrl, queryApiUrl, accessKey }: WelcomeOptions): string[] {
  const key = accessKey === undefined ? '' : ' -H "Authorization: Bearer $key"'
  const post = (name: string) =>
    `${key} -H "Idempotency-Key: ${name}-$(date +%s)" -H 'Content-Type: application/json'`
  const open = `-d '{"owner":"Ada","currency":"EUR"}' ${commandApiUrl}/accounts`
  const deposit = `-d '{"amount":"1250","currency":"EUR"}' ${commandApiUrl}/accounts/$account/deposits`
  const idOnly = `sed 's/.*"id":"\\([^"]*\\)".*/\\1/'`
  const tokenOnly = `tr -d '\\r' | sed -n 's/^[Cc]onsistency-[Tt]oken: //p'`
  return [
    ...(accessKey === undefined ? [] : [`key=${accessKey}`]),
    `account=$(curl -sS${post('open')} ${open} | ${idOnly})`,
    `token=$(curl -sS -o /dev/null -D -${post('deposit')} ${deposit} | ${tokenOnly})`,
    `curl -sS${key} -H "Consistency-Token: $token" -H 'Prefer: wait=10' ${queryApiUrl}/accounts/$account`,
  ]
}
