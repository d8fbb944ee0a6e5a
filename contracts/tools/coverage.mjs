#!/usr/bin/env node
// Runs the tests under `forge coverage` and fails when fewer than 95 % of the lines of `src` run. Left out are invariants and snapshots: the
// former try nothing that the others do not, the latter measure what is not optimised here.
//
// Lines inside `assembly` are left out: forge compiles the contracts through the IR for this (without it the stack is too deep), and then the
// compiler gives what such a block becomes no line of its own. Each of these blocks is compared with its long form by a fuzz test.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const LIMIT = 95;
const path = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url));

const forge = spawnSync(
  "forge",
  ["coverage", "--ir-minimum", "--no-match-contract", "Invariant|Snapshot", "--report", "lcov", "--report-file", "lcov.info"],
  { cwd: path("."), env: { ...process.env, FOUNDRY_PROFILE: "coverage" }, encoding: "utf8", maxBuffer: 1 << 28 },
);
if (forge.status !== 0) {
  console.error(forge.error ?? `${forge.stdout}${forge.stderr}`);
  process.exit(2);
}

// The numbers of the lines that are inside an assembly block of a source.
const assemblyLines = (file) => {
  const lines = new Set();
  let depth = 0;
  readFileSync(path(file), "utf8").split("\n").forEach((text, index) => {
    if (depth > 0) lines.add(index + 1);
    if (depth > 0 || /\bassembly\b.*\{/.test(text)) {
      if (depth === 0) lines.add(index + 1);
      depth += (text.match(/\{/g) ?? []).length - (text.match(/\}/g) ?? []).length;
    }
  });
  return lines;
};

let [hits, found] = [0, 0];
for (const record of readFileSync(path("lcov.info"), "utf8").split("end_of_record")) {
  const file = /^SF:(.*)$/m.exec(record)?.[1];
  if (file === undefined || !file.startsWith("src/")) continue;
  const left = assemblyLines(file);
  const lines = [...record.matchAll(/^DA:(\d+),(\d+)/gm)].map(([, line, count]) => [Number(line), Number(count)]).filter(([line]) => !left.has(line));
  const missed = lines.filter(([, count]) => count === 0).map(([line]) => line);
  hits += lines.length - missed.length;
  found += lines.length;
  const percent = lines.length === 0 ? 100 : (100 * (lines.length - missed.length)) / lines.length;
  console.log(`${percent.toFixed(1).padStart(6)} %  ${file}${missed.length > 0 ? `  missed: ${missed.join(", ")}` : ""}`);
}
const percent = found === 0 ? 0 : (100 * hits) / found;
console.log(`${percent.toFixed(1).padStart(6)} %  ${hits} of ${found} lines`);
if (percent < LIMIT) {
  console.error(`coverage: below ${LIMIT} %`);
  process.exit(1);
}
