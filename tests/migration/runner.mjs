// A js block of docs/migration.md in a process of its own, as runner.py runs a Python one:
// `node runner.mjs BEGIN`. The block defines `app`, an Express application.

import http from 'node:http'
import { createRequire } from 'node:module'
import readline from 'node:readline'

const require = createRequire(import.meta.url)
const RealDate = globalThis.Date
let now = Number(process.argv[2]) * 1000 // milliseconds; it stands still until it is turned
let server

globalThis.Date = class Date extends RealDate {
  constructor(...given) {
    super(...(given.length ? given : [now]))
  }
  static now() {
    return now
  }
}

function get(path, headers) {
  return new Promise((resolve, reject) => {
    const { port } = server.address()
    const request = http.get({ host: '127.0.0.1', port, path, headers, agent: false })
    request.on('error', reject)
    request.on('response', (response) => response.resume().on('end', () => resolve(response)))
  })
}

const commands = {
  async open({ code }) {
    server?.close()
    const app = new Function('require', `${code}\nreturn app`)(require)
    server = app.listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    return []
  },

  async ask({ token, path = '/things', proof = null }) {
    const headers = { Host: 'api.test' }
    if (token !== null) headers.Authorization = `${proof === null ? 'Bearer' : 'DPoP'} ${token}`
    if (proof !== null) headers.DPoP = proof
    const { statusCode: status, headers: answered } = await get(path, headers)
    const named = /error="(\w+)"/.exec(answered['www-authenticate'] ?? '')
    return status === 200 || !named ? `${status}` : `${status} ${named[1]}`
  },

  async advance({ seconds }) {
    now += seconds * 1000
    return null
  },
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  process.stdout.write(`${JSON.stringify(await commands[command.do](command))}\n`)
}
server?.close()
