"use strict";

// Express behind express-jwt with the keys of jwks-rsa, as the example of jwks-rsa shows.
const { expressjwt } = require("express-jwt");
const { expressJwtSecret } = require("jwks-rsa");

const { serve } = require("./express_plain.cjs");

serve(
  expressjwt({
    secret: expressJwtSecret({
      cache: true,
      rateLimit: true,
      jwksRequestsPerMinute: 5,
      jwksUri: process.env.JWKS_URI,
    }),
    audience: process.env.AUDIENCE,
    issuer: process.env.ISSUER,
    algorithms: ["RS256"],
  }),
);
