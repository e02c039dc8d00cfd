"use strict";

// Fastify, unguarded, or with the route options that another of these apps gives.
const fastify = require("fastify");

const message = { message: "hello" };

async function serve(prepare = async () => ({})) {
  const server = fastify();
  const options = await prepare(server);
  server.get("/", options, async () => message);
  await server.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
}

module.exports = { serve };

if (require.main === module) {
  serve();
}
