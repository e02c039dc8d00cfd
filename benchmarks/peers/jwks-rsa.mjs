// jwks-rsa with jsonwebtoken, as the latter's documentation joins them.

import jwksClient from 'jwks-rsa'
import jwt from 'jsonwebtoken'

export const packages = ['jwks-rsa', 'jsonwebtoken']

export function consumer({ issuer, jwksUri, audience, algorithms }) {
  const client = jwksClient({ jwksUri })

  function getKey({ kid }, callback) {
    client.getSigningKey(kid, (error, key) => callback(error, key?.getPublicKey()))
  }

  return (token) =>
    new Promise((resolve, reject) => {
      jwt.verify(token, getKey, { issuer, audience, algorithms }, (error, claims) =>
        error ? reject(error) : resolve(claims)
      )
    })
}

// The cache of keys, lru-cache, holds the time of day for a millisecond.
export const settle = () => new Promise((resolve) => setTimeout(resolve, 2))
