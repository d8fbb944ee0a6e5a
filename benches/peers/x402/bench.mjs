// The reference x402 server under load: vouchers signed beforehand, one request in flight on each channel, as the scheme demands.
//
// node bench.mjs [--seconds S] [--socket REDIS_SOCKET] [--server-pid REDIS_PID] [--directory DIR] memory|file|redis|signature
// Prints one line of JSON; fails if a payment is refused or the server charged anything else than what was paid.

import { fork } from "node:child_process";
import http from "node:http";
import { parseArgs } from "node:util";
import { decodePaymentRequiredHeader, decodePaymentResponseHeader, encodePaymentSignatureHeader } from "@x402/core/http";
import { BATCH_SETTLEMENT_ADDRESS, BATCH_SETTLEMENT_DOMAIN, voucherTypes } from "@x402/evm";
import { verifyTypedData } from "viem";
import { authorizer, CHAIN_ID, channels, PRICE } from "./channels.mjs";
import { print, seconds, startClock, version } from "./row.mjs";

const CHANNELS = 64;
// More than a server of today answers in a second, and a thread of today verifies.
const RATE_MAX = 1_200;
// Of each channel, before the window, so that the engine has compiled what it will.
const WARM_UP = 4;
const DOMAIN = { ...BATCH_SETTLEMENT_DOMAIN, chainId: CHAIN_ID, verifyingContract: BATCH_SETTLEMENT_ADDRESS };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string", default: "5" },
    socket: { type: "string" },
    directory: { type: "string" },
    "server-pid": { type: "string" },
  },
});
const [kind] = positionals;
const window = seconds(values.seconds);

async function sign(channelId, cumulative) {
  const message = { channelId, maxClaimableAmount: cumulative };
  const signature = await authorizer.signTypedData({ domain: DOMAIN, types: voucherTypes, primaryType: "Voucher", message });
  return { channelId, maxClaimableAmount: cumulative.toString(), signature };
}

/** For each channel its vouchers in order. */
async function vouchers() {
  const each = Math.ceil((window * RATE_MAX) / CHANNELS) + WARM_UP;
  return Promise.all(
    channels(CHANNELS).map(async ({ id, config }) => {
      const signed = [];
      for (let number = 1; number <= each; number++) signed.push(await sign(id, PRICE * BigInt(number)));
      return { config, signed };
    }),
  );
}

/** What the server does about the signature, in this process, one after the other. */
async function signatures() {
  const all = (await vouchers()).flatMap(({ signed }) => signed);
  const clock = startClock([], window);
  let verified = 0;
  for (const { channelId, maxClaimableAmount, signature } of all) {
    const message = { channelId, maxClaimableAmount: BigInt(maxClaimableAmount) };
    const typed = { address: authorizer.address, domain: DOMAIN, types: voucherTypes, primaryType: "Voucher", message, signature };
    if (!(await verifyTypedData(typed))) throw new Error("a voucher was refused");
    verified++;
    if (clock.isOver()) break;
  }
  const times = clock.stop();
  const row = {
    peer: "x402 @x402/evm",
    version: `${version("@x402/evm")}, viem ${version("viem")}`,
    setup: "a voucher's signature alone, as the server checks it, 1 thread, no HTTP",
    verified: "EIP-712 signature by recovery, signer equals the channel's; nothing of the channel's state",
    durable: "none: nothing is kept",
  };
  print(row, verified, times);
}

const DURABLE = {
  memory: "none: its in-memory channel storage",
  file: "not against power loss: its file storage, written and renamed, never synced",
  redis: "the channel's newest voucher, its Redis storage, appendfsync always, before the response",
};

function request(agent, port, headers) {
  return new Promise((resolve, reject) => {
    const sent = http.get({ host: "127.0.0.1", port, path: "/paid", agent, headers }, (response) => {
      response.resume();
      response.on("end", () => resolve(response));
      response.on("error", reject);
    });
    sent.on("error", reject);
  });
}

const reply = (child) =>
  new Promise((resolve, reject) => {
    child.once("message", resolve);
    child.once("exit", (status) => reject(new Error(`the server ended with ${status}`)));
  });

async function server() {
  const path = { memory: "-", file: values.directory, redis: values.socket }[kind];
  if (!path) throw new Error(`${kind} needs ${kind === "file" ? "--directory" : "--socket"}`);
  // Its standard output is not the result.
  const env = { ...process.env, NODE_ENV: "production" };
  const child = fork(new URL("server.mjs", import.meta.url), [kind, path, CHANNELS], { stdio: ["ignore", 2, 2, "ipc"], env });
  try {
    const { port } = await reply(child);
    const agent = new http.Agent({ keepAlive: true, maxSockets: CHANNELS });
    const unpaid = await request(agent, port, {});
    if (unpaid.statusCode !== 402) throw new Error(`without a payment the server says ${unpaid.statusCode}`);
    const accepted = decodePaymentRequiredHeader(unpaid.headers["payment-required"]).accepts[0];
    const lanes = (await vouchers()).map(({ config, signed }) =>
      signed.map((voucher) => {
        const payload = { type: "voucher", channelConfig: config, voucher };
        return encodePaymentSignatureHeader({ x402Version: 2, accepted, payload });
      }),
    );

    const servers = [child.pid, ...(values["server-pid"] ? [Number(values["server-pid"])] : [])];
    // One after the other on each channel, until its headers or the time are used up.
    const pay = (part, isOver) =>
      Promise.all(
        lanes.map(async (headers) => {
          let paid = 0;
          for (const header of part(headers)) {
            if (isOver()) break;
            const response = await request(agent, port, { "payment-signature": header });
            const told = response.headers["payment-response"];
            if (response.statusCode !== 200 || !told || !decodePaymentResponseHeader(told).success)
              throw new Error(`a payment was answered with ${response.statusCode} ${JSON.stringify(response.headers)}`);
            paid++;
          }
          return paid;
        }),
      ).then((paid) => paid.reduce((sum, one) => sum + one, 0));
    const warmUp = await pay((headers) => headers.slice(0, WARM_UP), () => false);
    const clock = startClock(servers, window);
    const paid = await pay((headers) => headers.slice(WARM_UP), clock.isOver);
    const times = clock.stop();

    child.send("charged");
    const { charged } = await reply(child);
    const answered = BigInt(warmUp + paid) * PRICE;
    if (BigInt(charged) !== answered) throw new Error(`${answered} was paid, ${charged} is charged`);
    const row = {
      peer: "x402 @x402/express",
      version: `${version("@x402/express")}, express ${version("express")}, node ${process.versions.node}`,
      setup: `paid GET over HTTP, ${CHANNELS} channels, a kept connection each, ${kind} storage`,
      verified: "voucher's channel, terms, EIP-712 signature by recovery, exact cumulative amount, deposit; charged after the handler",
      durable: DURABLE[kind],
    };
    print(row, paid, times);
    agent.destroy();
  } finally {
    child.kill();
  }
}

if (kind === "signature") await signatures();
else if (kind in DURABLE) await server();
else throw new Error("one of memory, file, redis, signature");
