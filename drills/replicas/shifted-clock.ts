import { existsSync, readFileSync, writeFileSync } from 'node:fs'

// Loaded before a relay by `NODE_OPTIONS=--import`, in drills only: at SIGUSR2 the process takes its wall
// clock, and nothing else of time, from then on to be off by what a file says. So one process's clock
// can step while those of the servers, of the other relays and of the drill stand.

const folder = process.env.DRILL_CLOCKS ?? ''
const file = `${folder}/${process.pid}`
const Wall = globalThis.Date
const realNow = Wall.now
let offByMs = 0

Wall.now = () => realNow() + offByMs
globalThis.Date = new Proxy(Wall, {
  construct: (target, given, newTarget) =>
    Reflect.construct(target, given.length === 0 ? [Wall.now()] : given, newTarget) as object,
})
process.on('SIGUSR2', () => {
  if (!existsSync(file)) return
  offByMs = Number(readFileSync(file, 'utf8'))
  // As whoever asks it for the time is told.
  writeFileSync(`${file}.now`, String(new Date().getTime()))
})
