#!/usr/bin/env node
// The compiler as forge wants it, from the npm package: `--version` prints the version, anything else compiles standard JSON from
// standard input to standard output. Sources arrive inside the JSON, so the other arguments of forge (`--allow-paths` and so on) have no effect.
import { readFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";

const solc = createRequire(import.meta.url)("solc");
const print = (text) => {
  for (let bytes = Buffer.from(text); bytes.length > 0; bytes = bytes.subarray(writeSync(1, bytes)));
};

if (process.argv.includes("--version")) print(`solc, the solidity compiler\nVersion: ${solc.version()}\n`);
else print(solc.compile(readFileSync(0, "utf8")));
process.exit(0);
