import type { Route } from 'service/route'
import type { Projection } from '../projection.ts'
import type { ReadSettings } from '../reading.ts'
import { accountRoutes } from './accounts-reads.ts'
import { accounts } from './accounts.ts'

/** A read model: how it is kept up, and what it answers. */
export type ReadModel = { projection: Projection; routes: (settings: ReadSettings) => Route[] }

/** All of them. One more is one more line, its files beside this one, and its migration. */
export const readModels: readonly ReadModel[] = [{ projection: accounts, routes: accountRoutes }]
