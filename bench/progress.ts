/** Tells the person at the terminal what goes on; figures go to standard output, this does not. */
export type Progress = {
  /** A line of its own: something new begins. */
  step(title: string): void
  /** How far it is; said at most every two seconds. */
  tick(text: string): void
}

const tickIntervalMs = 2_000

export function openProgress(now: () => number, write: (text: string) => void): Progress {
  const begunMs = now()
  let title = ''
  let saidMs = begunMs
  const say = (text: string) => {
    saidMs = now()
    write(`[${((saidMs - begunMs) / 1_000).toFixed(0).padStart(4)} s] ${text}\n`)
  }
  return {
    step(text) {
      title = text
      say(text)
    },
    tick(text) {
      if (now() - saidMs >= tickIntervalMs) say(`${title}: ${text}`)
    },
  }
}
