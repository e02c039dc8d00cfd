// jose: createRemoteJWKSet and jwtVerify.

import { createRemoteJWKSet, jwtVerify } from 'jose'

export const packages = ['jose']

export function consumer({ issuer, jwksUri, audience, algorithms }) {
  const keys = createRemoteJWKSet(new URL(jwksUri))
  return (token) => jwtVerify(token, keys, { issuer, audience, algorithms })
}
