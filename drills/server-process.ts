import type { Child } from 'local-stack'

/** PostgreSQL or Kafka: killed with -9, and started on what it left. */
export class ServerProcess<Server extends Child> {
  readonly #start: () => Promise<Server>
  #running: Server

  private constructor(start: () => Promise<Server>, running: Server) {
    this.#start = start
    this.#running = running
  }

  static async start<Server extends Child>(
    start: () => Promise<Server>,
  ): Promise<ServerProcess<Server>> {
    return new ServerProcess(start, await start())
  }

  get running(): Server {
    return this.#running
  }

  async kill(): Promise<void> {
    this.#running.kill('SIGKILL')
    await this.#running.exited
  }

  /** Resolves when it answers. */
  async startAgain(): Promise<void> {
    this.#running = await this.#start()
  }

  stop(): Promise<void> {
    return this.#running.stop()
  }
}
