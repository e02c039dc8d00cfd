"use strict";

// Fastify behind fastify-jwt-jwks (on @fastify/jwt and fast-jwt), as its own README shows.
const { serve } = require("./fastify_plain.cjs");

serve(async (server) => {
  await server.register(require("fastify-jwt-jwks"), {
    jwksUrl: process.env.JWKS_URI,
    issuer: process.env.ISSUER,
    audience: process.env.AUDIENCE,
  });
  return { preValidation: server.authenticate };
});
