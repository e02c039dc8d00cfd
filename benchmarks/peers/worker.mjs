// One Node peer: JSON lines in, JSON lines out, the same commands as in worker.py.
// `node worker.mjs NAME [--virtual-clock]`, in a folder with node_modules.
//
// An adapter exports `packages`, the packages whose versions belong to its figures, and
// `consumer({ issuer, jwksUri, audience, algorithms })`, which gives an async function that
// verifies a token and throws for a bad one. It may export `settle`, awaited after the clock was
// turned.

import crypto from 'node:crypto'
import fs from 'node:fs'
import readline from 'node:readline'
import { VirtualClock } from './clock.mjs'

const LONGEST_TEXT = 200 // characters of an error's message
const [name, ...options] = process.argv.slice(2)
const clock = new VirtualClock()
if (options.includes('--virtual-clock')) clock.install() // before the import below
const adapter = await import(`./${name}.mjs`)
const settle = adapter.settle ?? (() => new Promise(setImmediate))
const now = process.hrtime.bigint // never turned

let verify
let jwks

const commands = {
  async open({ issuer, jwks_uri: jwksUri, audience, algorithms, jwks: given }) {
    jwks = given
    verify = await adapter.consumer({ issuer, jwksUri, audience, algorithms })
    const versions = Object.fromEntries(adapter.packages.map((each) => [each, version(each)]))
    return { ok: true, versions: { ...versions, node: process.versions.node } }
  },

  async verify({ tokens }) {
    const results = []
    for (const token of tokens) results.push(await refusal(token))
    return { results }
  },

  async time({ tokens }) {
    const began = measured()
    for (const token of tokens) await verify(token)
    return since(began)
  },

  async bare({ token, count }) {
    const [header, payload, signature] = token.split('.')
    const { kid } = JSON.parse(Buffer.from(header, 'base64url'))
    const jwk = jwks.keys.find((each) => each.kid === kid)
    const key = crypto.createPublicKey({ key: jwk, format: 'jwk' })
    const message = Buffer.from(`${header}.${payload}`)
    const bytes = Buffer.from(signature, 'base64url')
    const began = measured()
    for (let each = 0; each < count; each++) {
      if (!crypto.verify('RSA-SHA256', message, key, bytes)) throw new Error('bad signature')
    }
    return since(began)
  },

  async advance({ seconds }) {
    clock.advance(seconds)
    await settle()
    return { ok: true }
  },

  async distrust() {
    return { error: 'unsupported' }
  }
}

function measured() {
  return { clock: now(), cpu: process.cpuUsage() }
}

// Seconds by the clock, and those that the processor worked for all threads of this process.
function since(began) {
  const { user, system } = process.cpuUsage(began.cpu)
  return { seconds: Number(now() - began.clock) / 1e9, cpu: (user + system) / 1e6 }
}

async function refusal(token) {
  try {
    await verify(token)
    return null
  } catch (error) {
    return described(error, token)
  }
}

function described(error, token = '\0') {
  const text = String(error.message).replaceAll(token, '(token)').slice(0, LONGEST_TEXT)
  return `${error.code ?? error.name}: ${text}`
}

function version(name) {
  const manifest = new URL(`../node_modules/${name}/package.json`, import.meta.url)
  return JSON.parse(fs.readFileSync(manifest)).version
}

async function answered(line) {
  const { do: what, ...given } = JSON.parse(line)
  try {
    return await commands[what](given)
  } catch (error) {
    return { error: described(error) }
  }
}

console.log = console.error // what a library prints shall not be taken for an answer
for await (const line of readline.createInterface({ input: process.stdin })) {
  fs.writeSync(1, JSON.stringify(await answered(line)) + '\n')
}
process.exit() // a library's open connections shall not keep it alive
