import { runCommand } from './command.ts'
import { ContainersError } from './errors.ts'

/**
 * The Compose command that answers: Docker's own plugin, else the older program of its own. Throws
 * `docker_missing` or `compose_missing`, each a sentence that says what to do.
 */
export async function findCompose(signal: AbortSignal): Promise<readonly string[]> {
  const engine = await answerOf(['docker', 'version', '--format', '{{.Server.Version}}'], signal)
  if ('refusal' in engine) {
    throw new ContainersError(
      'docker_missing',
      `Docker does not answer (${engine.refusal}): install it, or start its engine, and try again`,
    )
  }
  for (const compose of [['docker', 'compose'], ['docker-compose']]) {
    if ('said' in (await answerOf([...compose, 'version'], signal))) return compose
  }
  throw new ContainersError(
    'compose_missing',
    'Docker answers, but neither `docker compose` nor `docker-compose` does: install Compose',
  )
}

async function answerOf(
  command: readonly string[],
  signal: AbortSignal,
): Promise<{ said: string } | { refusal: string }> {
  try {
    return { said: await runCommand(command, { signal, timeoutMs: 30_000 }) }
  } catch (error) {
    signal.throwIfAborted()
    return { refusal: (error as Error).message.trim().split('\n').at(-1) ?? '' }
  }
}
