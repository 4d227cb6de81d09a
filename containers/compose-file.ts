import { readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { z } from 'zod'
import { ContainersError } from './errors.ts'

const text = z.union([z.string(), z.number()]).transform(String)

const serviceSchema = z.object({
  image: z.string(),
  build: z.object({ args: z.record(z.string(), text).default({}) }).optional(),
  command: z
    .union([z.string().transform((line) => line.split(' ')), z.array(z.string())])
    .optional(),
  environment: z.record(z.string(), text).default({}),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  depends_on: z.record(z.string(), z.object({ condition: z.string() })).default({}),
  healthcheck: z.object({ test: z.array(text) }).optional(),
  restart: z.string().optional(),
  profiles: z.array(z.string()).default([]),
  logging: z.object({ options: z.record(z.string(), z.string()) }).optional(),
})

const composeSchema = z.object({
  services: z.record(z.string(), serviceSchema),
  volumes: z.record(z.string(), z.null()),
})

export type ComposeService = z.output<typeof serviceSchema>
export type ComposeFile = z.output<typeof composeSchema>

export const composePath = new URL('../docker-compose.yml', import.meta.url)

/**
 * docker-compose.yml with its variables filled in, as far as this project uses its format. Throws
 * `compose_file_invalid` on anything beyond that.
 */
export function readComposeFile(environment: NodeJS.ProcessEnv = {}): ComposeFile {
  return parseCompose(readFileSync(composePath, 'utf8'), environment)
}

export function parseCompose(source: string, environment: NodeJS.ProcessEnv): ComposeFile {
  // YAML 1.1, as older Compose reads it: a bare `on` is a boolean there, and refused here.
  const document: unknown = parse(interpolate(source, environment), { version: '1.1', merge: true })
  const result = composeSchema.safeParse(document)
  if (result.success) return result.data
  throw new ContainersError('compose_file_invalid', z.prettifyError(result.error))
}

/** `${NAME}` and `${NAME:-default}`, where an empty variable is none; `$$` is a dollar. */
export function interpolate(source: string, environment: NodeJS.ProcessEnv): string {
  return source.replaceAll(/\$(?:\$|\{([A-Z_]+)(?::-([^{}$]*))?\}|)/g, (match, name, byDefault) => {
    if (match === '$$') return '$'
    const value = environment[name as string] || (byDefault as string | undefined)
    if (value !== undefined) return value
    throw new ContainersError(
      'compose_file_invalid',
      match === '$' ? 'a lone $ in the file' : `${match} has neither a value nor a default`,
    )
  })
}

/** The variables by which the file can be changed, with their defaults; in order of appearance. */
export function composeVariables(): Map<string, string> {
  const source = readFileSync(composePath, 'utf8')
  const found = source.matchAll(/\$\{([A-Z_]+):-([^{}$]*)\}/g)
  return new Map([...found].map(([, name = '', byDefault = '']) => [name, byDefault]))
}
