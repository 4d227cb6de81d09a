import { catalogue } from 'service/problem'

/** Every refusal that the relay adds to those of any HTTP service. Codes never change. */
export const problem = catalogue({
  invalid_cursor: { status: 400, title: 'The cursor is not one that this list gave' },
  mode_unavailable: { status: 409, title: 'The relay cannot go into this mode' },
  no_switch: { status: 404, title: 'No switch is under way' },
  aggregates_parked: { status: 409, title: 'A connector would pass over what is parked' },
  not_parked: { status: 404, title: 'This aggregate is not parked' },
  release_under_way: { status: 409, title: 'The release of this aggregate is under way already' },
})
