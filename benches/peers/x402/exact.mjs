// x402's `exact` scheme: each payment an EIP-3009 authorization, verified by the reference facilitator in this process, which asks a
// local chain (anvil, with this repository's development token) about the token and simulates the transfer. Nothing is settled.
//
// node exact.mjs [--seconds S] --anvil FILE
// Prints one line of JSON; fails if a payment is refused, or if a changed one is not.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { authorizationTypes, toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { x402Facilitator } from "@x402/core/facilitator";
import { createTestClient, http, numberToHex, publicActions, walletActions } from "viem";
import { foundry } from "viem/chains";
import { authorizer, payer, provider } from "./channels.mjs";
import { print, seconds, startClock, version } from "./row.mjs";

const NETWORK = `eip155:${foundry.id}`;
// Verifications under way at one time: the chain answers while this process computes.
const CONCURRENT = 16;
// More than a facilitator of today verifies in a second.
const RATE_MAX = 1_000;
const WARM_UP = 64;

const { values } = parseArgs({ options: { seconds: { type: "string", default: "5" }, anvil: { type: "string" } } });
const window = seconds(values.seconds);
if (!values.anvil) throw new Error("--anvil is needed");

const anvil = spawn(values.anvil, ["--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
process.on("exit", () => anvil.kill());
const address = await new Promise((resolve, reject) => {
  anvil.once("exit", (status) => reject(new Error(`anvil ended with ${status}`)));
  createInterface({ input: anvil.stdout }).on("line", (line) => {
    const listening = /^Listening on (\S+)$/.exec(line);
    if (listening) resolve(listening[1]);
  });
});

const chain = createTestClient({ account: provider, chain: foundry, mode: "anvil", transport: http(`http://${address}`) })
  .extend(publicActions)
  .extend(walletActions);
await chain.setBalance({ address: provider.address, value: 10n ** 20n });
const artifact = JSON.parse(readFileSync(new URL("../../../contracts/artifacts/TestUSDC.json", import.meta.url)));
const deployed = await chain.waitForTransactionReceipt({ hash: await chain.deployContract(artifact) });
const token = deployed.contractAddress;
const mint = { address: token, abi: artifact.abi, functionName: "mint", args: [payer.address, 10n ** 12n] };
await chain.waitForTransactionReceipt({ hash: await chain.writeContract(mint) });

const requirements = {
  scheme: "exact",
  network: NETWORK,
  asset: token,
  amount: "1",
  payTo: authorizer.address,
  maxTimeoutSeconds: 3_600,
  extra: { name: "USD Coin", version: "2" },
};
const now = Math.floor(Date.now() / 1000);

async function payment(number) {
  const [from, to, value] = [payer.address, authorizer.address, requirements.amount];
  const authorization = { from, to, value, validAfter: "0", validBefore: String(now + 3_600), nonce: numberToHex(number, { size: 32 }) };
  const signature = await payer.signTypedData({
    domain: { ...requirements.extra, chainId: foundry.id, verifyingContract: token },
    types: authorizationTypes,
    primaryType: "TransferWithAuthorization",
    message: { ...authorization, value: BigInt(value), validAfter: 0n, validBefore: BigInt(authorization.validBefore) },
  });
  return { x402Version: 2, accepted: requirements, payload: { authorization, signature } };
}
const payments = [];
for (let number = 0; number < Math.ceil(window * RATE_MAX) + WARM_UP; number++) payments.push(await payment(number));

const signer = toFacilitatorEvmSigner({ ...chain, address: provider.address });
const facilitator = new x402Facilitator().register(NETWORK, new ExactEvmScheme(signer));

const changed = structuredClone(payments[0]);
changed.payload.authorization.nonce = payments[1].payload.authorization.nonce;
const refusal = await facilitator.verify(changed, requirements);
if (refusal.isValid) throw new Error("a changed payment was not refused");

/** How many were verified before all were or the time was over. */
async function verifyAll(open, isOver) {
  let verified = 0;
  const worker = async () => {
    while (open.length > 0 && !isOver()) {
      const result = await facilitator.verify(open.pop(), requirements);
      if (!result.isValid) throw new Error(`a payment was refused: ${result.invalidReason} ${result.invalidMessage ?? ""}`);
      verified++;
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT }, worker));
  return verified;
}
await verifyAll(payments.splice(0, WARM_UP), () => false);
const clock = startClock([anvil.pid], window);
const verified = await verifyAll(payments, clock.isOver);
const times = clock.stop();
const row = {
  peer: "x402 exact facilitator",
  version: `${version("@x402/evm")}, viem ${version("viem")}, node ${process.versions.node}`,
  setup: `an exact payment verified, ${CONCURRENT} at a time, no HTTP, a local chain beside it`,
  verified: "EIP-3009 authorization: signature, recipient, amount, validity, and the transfer simulated on the chain",
  durable: "none: nothing is kept, and nothing is settled",
};
print(row, verified, times);
anvil.kill();
