"use strict";

// Express, unguarded, or behind the handler that another of these apps exports as `guard`.
const express = require("express");

function serve(...guards) {
  const app = express();
  app.get("/", ...guards, (request, response) => response.json({ message: "hello" }));
  // Express's own handler writes a stack trace to stderr for every refusal.
  app.use((error, request, response, next) => {
    response.status(error.status ?? 500).json({ error: error.code ?? error.name });
  });
  app.listen(Number(process.env.PORT), "127.0.0.1");
}

module.exports = { serve };

if (require.main === module) {
  serve();
}
