// Reads an index configuration from standard input and checks it as `firebase deploy` would.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const path = require("node:path");

// From where `make firebase-tools` has installed it.
const installed = createRequire(path.join(__dirname, "..", "..", ".firebase-tools", "package.json"));
const { FirestoreApi } = installed("firebase-tools/lib/firestore/api");

try {
  new FirestoreApi().validateSpec(JSON.parse(readFileSync(0, "utf8")));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
