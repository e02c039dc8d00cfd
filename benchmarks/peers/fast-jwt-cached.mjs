// The same with fast-jwt's cache of verified tokens on.

import { consumer as uncached } from './fast-jwt.mjs'

export { packages, settle } from './fast-jwt.mjs'

export const consumer = (given) => uncached(given, { cache: true })
