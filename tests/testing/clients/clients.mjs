// Three Node clients of one tenant: a line of JSON for each token, {client, token}, in; a line out,
// {accepted: the token's sub} or {refused: the reason}. They are set up as their documentation says.

import crypto from 'node:crypto'
import readline from 'node:readline'
import express from 'express'
import { auth } from 'express-oauth2-jwt-bearer'
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from 'jose'
import jwksClient from 'jwks-rsa'

const { ISSUER: issuer, AUDIENCE: audience } = process.env
const jwksUri = `${issuer}.well-known/jwks.json`

const remoteSet = createRemoteJWKSet(new URL(jwksUri))
const signingKeys = jwksClient({ jwksUri })

const app = express()
app.use(auth({ issuerBaseURL: issuer, audience }))
app.get('/', (request, response) => response.json(request.auth.payload))
app.use((error, request, response, next) => {
  response.status(error.status ?? 500).json({ message: error.message })
})
const server = app.listen(0, '127.0.0.1')
await new Promise((resolve) => server.once('listening', resolve))

const clients = {
  async 'express-oauth2-jwt-bearer'(token) {
    const response = await fetch(`http://127.0.0.1:${server.address().port}/`, {
      headers: { Authorization: `Bearer ${token}` },
    })
    const body = await response.json()
    if (!response.ok) throw new Error(`${response.status} ${body.message}`)
    return body
  },

  async jose(token) {
    return (await jwtVerify(token, remoteSet, { issuer, audience })).payload
  },

  async 'jwks-rsa'(token) {
    const key = await signingKeys.getSigningKey(decodeProtectedHeader(token).kid)
    const publicKey = crypto.createPublicKey(key.getPublicKey())
    return (await jwtVerify(token, publicKey, { issuer, audience, algorithms: ['RS256'] })).payload
  },
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { client, token } = JSON.parse(line)
  const answer = await clients[client](token).then(
    (claims) => ({ accepted: claims.sub }),
    (error) => ({ refused: error.message })
  )
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
server.close()
