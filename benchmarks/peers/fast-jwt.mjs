// fast-jwt with get-jwks, as the latter's documentation joins them. Its cache of verified tokens is
// off by default.

import buildGetJwks from 'get-jwks'
import { createVerifier } from 'fast-jwt'

export const packages = ['fast-jwt', 'get-jwks']

export function consumer({ issuer, jwksUri, audience, algorithms }, options = {}) {
  const domain = new URL('/', jwksUri).href // where the keys are
  const jwksPath = new URL(jwksUri).pathname
  const keys = buildGetJwks({ issuersWhitelist: [domain], jwksPath })
  return createVerifier({
    key: ({ header: { kid, alg } }) => keys.getPublicKey({ kid, alg, domain }),
    algorithms,
    allowedIss: issuer,
    allowedAud: audience,
    requiredClaims: ['iss', 'aud', 'exp'],
    ...options
  })
}

// The cache of keys, lru-cache, holds the time of day for a millisecond.
export const settle = () => new Promise((resolve) => setTimeout(resolve, 2))
