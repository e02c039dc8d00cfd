"use strict";

// Express behind express-oauth2-jwt-bearer, as its own README shows.
const { auth } = require("express-oauth2-jwt-bearer");

const { serve } = require("./express_plain.cjs");

serve(auth({ issuerBaseURL: process.env.ISSUER, audience: process.env.AUDIENCE }));
