#!/usr/bin/env node
// Writes `artifacts/<Name>.json` from the output of `forge build`; with `--check`, fails when a committed artifact is stale.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const NAMES = [
  "Ledger",
  "LedgerFactory",
  "Groth16Verifier",
  "BookPaths",
  "SessionEscrow",
  "X402BatchSettlement",
  "ERC3009DepositCollector",
  "Permit2DepositCollector",
  "X402ExactPermit2Proxy",
  "DevPermit2",
  "TestUSDC",
  "TestUSDT",
];
const path = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url));
const read = (file) => {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
};
// forge's internal type names (`internalType`) stay: code generators name structs after them.
const sorted = (value) =>
  Array.isArray(value)
    ? value.map(sorted)
    : value !== null && typeof value === "object"
      ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]))
      : value;

// Where the code that a creation leaves is in its creation code, and where each immutable is in it, in the order of their declaration (the
// compiler names them by numbers that ascend with it): so that whoever knows the immutables knows the code, without a chain.
const runtime = (name, bytecode, { object, immutableReferences = {} }) => {
  const start = bytecode.object.slice(2).indexOf(object.slice(2)) / 2;
  if (!Number.isInteger(start) || start < 0) {
    console.error(`artifacts: the code of ${name} is not in its creation code`);
    process.exit(2);
  }
  const ids = Object.keys(immutableReferences).sort((left, right) => Number(left) - Number(right));
  const immutables = ids.map((id) => immutableReferences[id].map(({ start }) => start));
  return { immutables, length: object.length / 2 - 1, start };
};

const check = process.argv.includes("--check");
const stale = [];
mkdirSync(path("artifacts"), { recursive: true });
for (const name of NAMES) {
  const built = read(path(`out/${name}.sol/${name}.json`));
  if (built === null) {
    console.error(`artifacts: out/${name}.sol/${name}.json is missing; run \`npm run build\` first`);
    process.exit(2);
  }
  const { abi, bytecode, deployedBytecode } = JSON.parse(built);
  const document = { contractName: name, abi: sorted(abi), bytecode: bytecode.object, runtime: runtime(name, bytecode, deployedBytecode) };
  const text = `${JSON.stringify(document)}\n`;
  const file = path(`artifacts/${name}.json`);
  if (read(file) === text) continue;
  stale.push(name);
  if (!check) writeFileSync(file, text);
}
if (check && stale.length > 0) {
  console.error(`artifacts: stale: ${stale.join(", ")}; run \`npm run artifacts\` and commit contracts/artifacts`);
  process.exit(1);
}
console.log(check ? "artifacts: up to date" : `artifacts: ${stale.length === 0 ? "up to date" : `wrote ${stale.join(", ")}`}`);
