#!/usr/bin/env node
// Writes `vectors/escrows.json`: ids, digests, nonces and signatures of x402 channels and of session channels, computed here from the texts
// of EIP-712 and nothing else. Everything is derived from fixed numbers, so the file never changes by chance. Those of x402 that the public
// SDK of the scheme has computed too are pinned below, and a difference is an error.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { bytesToHex, hexToBytes } from "@noble/curves/utils.js";
import { keccak_256 } from "@noble/hashes/sha3.js";

const hex = (bytes) => `0x${bytesToHex(bytes)}`;
const bytes = (text) => hexToBytes(text.slice(2));
const utf8 = (text) => new TextEncoder().encode(text);
const concat = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));
const hash = (...parts) => keccak_256(concat(...parts));
// A word of the ABI: a number, an address or a hash.
const word = (value) =>
  value instanceof Uint8Array ? value : bytes(`0x${(typeof value === "string" ? value.slice(2) : value.toString(16)).padStart(64, "0")}`);
const words = (...values) => concat(...values.map(word));
const typehash = (type) => hash(utf8(type));
const structHash = (type, ...values) => hash(words(typehash(type), ...values));
const digest = (domain, struct) => hash(Uint8Array.of(0x19, 0x01), domain, struct);
const domain = (name, version, chainId, contract) =>
  structHash("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)", typehash(name), typehash(version), chainId, contract);

// EIP-55.
const checksummed = (address) => {
  const text = bytesToHex(address);
  const sum = bytesToHex(hash(utf8(text)));
  return `0x${[...text].map((c, i) => (parseInt(sum[i], 16) >= 8 ? c.toUpperCase() : c)).join("")}`;
};
const key = (byte) => new Uint8Array(32).fill(byte);
const addressOf = (secret) => checksummed(hash(secp256k1.getPublicKey(secret, false).slice(1)).slice(12));
// RFC 6979, low s, r ‖ s ‖ v.
const sign = (secret, message) => {
  const [recovery, ...rs] = secp256k1.sign(message, secret, { prehash: false, lowS: true, format: "recovered" });
  return hex(concat(rs, [27 + recovery]));
};

const PERMIT2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3";
const permit2Digest = (chainId, witnessName, witnessType, token, amount, spender, nonce, deadline, witness) => {
  const permissions = "TokenPermissions(address token,uint256 amount)";
  const definitions = [permissions, witnessType].sort().join("");
  const type = `PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,${witnessName} witness)${definitions}`;
  const separator = structHash("EIP712Domain(string name,uint256 chainId,address verifyingContract)", typehash("Permit2"), chainId, PERMIT2);
  return digest(separator, structHash(type, structHash(permissions, token, amount), spender, nonce, deadline, witness));
};

// ------------------------------------------------------------------------------------------------------------------------------ x402

const X402 = {
  settlement: "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003",
  erc3009Collector: "0x4020806089470a89826cB9fB1f4059150b550004",
  permit2Collector: "0x4020425FAf3B746C082C2f942b4E5159887B0005",
  exactPermit2Proxy: "0x402085c248EeA27D92E8b30b2C58ed07f9E20001",
  permit2: PERMIT2,
};
const [payerKey, payerAuthorizerKey, receiverAuthorizerKey] = [key(0x11), key(0x22), key(0x33)];
const config = {
  payer: addressOf(payerKey),
  payerAuthorizer: addressOf(payerAuthorizerKey),
  receiver: `0x${"44".repeat(20)}`,
  receiverAuthorizer: addressOf(receiverAuthorizerKey),
  token: "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
  withdrawDelay: 900,
  salt: hex(word(1)),
};
const CONFIG =
  "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)";
const ENTRY = "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)";
const x402 = {
  maxClaimableAmount: 1000,
  totalClaimed: 700,
  refundNonce: 0,
  refundAmount: 500,
  depositAmount: 5000,
  authorizationSalt: 77,
  permit2Nonce: 5,
  deadline: 1_800_000_600,
  // Of an exact payment by Permit2: to the receiver, from this second on.
  validAfter: 1_800_000_000,
};
const x402Chain = (chainId) => {
  const separator = domain("x402 Batch Settlement", "1", chainId, X402.settlement);
  const idOf = (c) =>
    digest(separator, structHash(CONFIG, c.payer, c.payerAuthorizer, c.receiver, c.receiverAuthorizer, c.token, c.withdrawDelay, c.salt));
  const channelId = idOf(config);
  const otherChannelId = idOf({ ...config, salt: hex(word(2)) });
  const entry = (id) => structHash(ENTRY, id, x402.maxClaimableAmount, x402.totalClaimed);
  const batch = (...entries) => digest(separator, structHash(`ClaimBatch(ClaimEntry[] claims)${ENTRY}`, hash(...entries)));
  const voucherDigest = digest(separator, structHash("Voucher(bytes32 channelId,uint128 maxClaimableAmount)", channelId, x402.maxClaimableAmount));
  const refundDigest = digest(
    separator,
    structHash("Refund(bytes32 channelId,uint256 nonce,uint128 amount)", channelId, x402.refundNonce, x402.refundAmount),
  );
  const claimBatchDigest = batch(entry(channelId));
  const depositWitness = structHash("DepositWitness(bytes32 channelId)", channelId);
  const exactWitness = structHash("Witness(address to,uint256 validAfter)", config.receiver, x402.validAfter);
  return {
    chainId,
    domainSeparator: hex(separator),
    channelId: hex(channelId),
    voucherDigest: hex(voucherDigest),
    refundDigest: hex(refundDigest),
    claimBatchDigest: hex(claimBatchDigest),
    voucherSignature: sign(payerAuthorizerKey, voucherDigest),
    refundSignature: sign(receiverAuthorizerKey, refundDigest),
    claimBatchSignature: sign(receiverAuthorizerKey, claimBatchDigest),
    // Of two rows, the second of the same channel but for a salt of 2; and of none.
    otherChannelId: hex(otherChannelId),
    claimBatchDigestOfTwo: hex(batch(entry(channelId), entry(otherChannelId))),
    claimBatchDigestOfNone: hex(batch()),
    erc3009Nonce: hex(hash(words(channelId, x402.authorizationSalt))),
    depositWitness: hex(depositWitness),
    depositPermit2Digest: hex(
      permit2Digest(
        chainId, "DepositWitness", "DepositWitness(bytes32 channelId)",
        config.token, x402.depositAmount, X402.permit2Collector, x402.permit2Nonce, x402.deadline, depositWitness,
      ),
    ),
    exactWitness: hex(exactWitness),
    exactPermit2Digest: hex(
      permit2Digest(
        chainId, "Witness", "Witness(address to,uint256 validAfter)",
        config.token, x402.depositAmount, X402.exactPermit2Proxy, x402.permit2Nonce, x402.deadline, exactWitness,
      ),
    ),
  };
};

// What viem 2.57.1 and @x402/evm 2.27.0 make of the same channel.
const PINNED = [
  {
    chainId: 84532,
    domainSeparator: "0xfdef80764086b1e0fc6ba99f0cb9aa1d59109fda7c23d60334c89d2de44dffce",
    channelId: "0xd9f890c0516141574f8fe1f2dec0ba45a64fde12baa991b1bbd9369693d8df10",
    voucherDigest: "0x8f4750331cf55f3ae7c8c8c6dbb82db7f190ff6945e463dc480d9239af277c5f",
    refundDigest: "0x9449b5b00cf99b6d9a9e798a341e07730298998c54235cad5602674b1aa1d549",
    claimBatchDigest: "0x7a0cedb8c2b23b550f6fcbf7c51d79fe961c509d8735c242133964ae1f731823",
    voucherSignature:
      "0x9da38cebb233444e03a9c2c7c54ca704961ab567c209c5b3aea290852e28e25e0b58350ba71b790accfa2f717b34f1ccecf09fb3f86bab622e12f560a1e387361c",
  },
  {
    chainId: 31337,
    domainSeparator: "0xbf720f8d28a5c76a2f7743512598984fa4b90dd1efdb19af73f64cc6587d68af",
    channelId: "0x646455d24fb56b399851ab4e12230f4b048a5380b60e48266fff0d7005fdd700",
    voucherDigest: "0x6d9c1fdc80bb23e1dcaf0a0068374d4ee53c520eaba48851a3641e24c616be44",
    refundDigest: "0xead951a189d18bd97992d209a1675297691db66b3ce44851984c01755015a6f5",
    claimBatchDigest: "0x59670c837ffd6484548509605ea0bc0399cb7f15709849b38461b34ef70dda95",
    voucherSignature:
      "0xb16d6c4f1becc0747b1a9af847d5793a11256d17a74a5dc00606ffae471a1f5b12ed12b209d48bbcb25379e5dd7175e376333eeae56237c5984c59882123a5e21b",
  },
];
const x402Chains = PINNED.map((pinned) => {
  const computed = x402Chain(pinned.chainId);
  for (const [name, value] of Object.entries(pinned)) {
    if (computed[name] !== value) throw new Error(`escrow-vectors: ${name} on chain ${pinned.chainId} is ${computed[name]}, not ${value}`);
  }
  return computed;
});

// --------------------------------------------------------------------------------------------------------------------------- session

const session = {
  // Any address; the escrow has one of its own on each chain that it is put on.
  escrow: `0x${"55".repeat(20)}`,
  payer: config.payer,
  payee: addressOf(key(0x66)),
  token: config.token,
  salt: hex(word(1)),
  deposit: 5000,
  additionalDeposit: 250,
  topUpSalt: hex(word(2)),
  cumulativeAmount: 1200,
  nonce: 5,
  deadline: 1_800_000_600,
};
const signerKey = key(0x77);
const sessionChannel = (chainId, authorizedSigner, secret) => {
  const s = session;
  const separator = domain("EVM Payment Channel", "1", chainId, s.escrow);
  const channelId = hash(words(s.payer, s.payee, s.token, s.salt, authorizedSigner, s.escrow, chainId));
  const voucherDigest = digest(separator, structHash("Voucher(bytes32 channelId,uint128 cumulativeAmount)", channelId, s.cumulativeAmount));
  const authorization = (name) =>
    digest(
      separator,
      structHash(`${name}(bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline)`, channelId, s.cumulativeAmount, s.nonce, s.deadline),
    );
  const openWitness = structHash("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)", s.payee, s.salt, authorizedSigner);
  const topUpWitness = structHash("ChannelTopUpWitness(bytes32 channelId)", channelId);
  const permit2 = (name, type, amount, witness) => hex(permit2Digest(chainId, name, type, s.token, amount, s.escrow, s.nonce, s.deadline, witness));
  return {
    chainId,
    authorizedSigner,
    domainSeparator: hex(separator),
    channelId: hex(channelId),
    voucherDigest: hex(voucherDigest),
    voucherSignature: sign(secret, voucherDigest),
    settleAuthorizationDigest: hex(authorization("SettleAuthorization")),
    settleAuthorizationSignature: sign(key(0x66), authorization("SettleAuthorization")),
    closeAuthorizationDigest: hex(authorization("CloseAuthorization")),
    closeAuthorizationSignature: sign(key(0x66), authorization("CloseAuthorization")),
    openNonce: hex(hash(words(s.payer, s.payee, s.token, s.salt, authorizedSigner))),
    topUpNonce: hex(hash(words(channelId, s.additionalDeposit, s.payer, s.topUpSalt))),
    openWitness: hex(openWitness),
    openPermit2Digest: permit2("ChannelOpenWitness", "ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)", s.deposit, openWitness),
    topUpWitness: hex(topUpWitness),
    topUpPermit2Digest: permit2("ChannelTopUpWitness", "ChannelTopUpWitness(bytes32 channelId)", s.additionalDeposit, topUpWitness),
  };
};
const NOBODY = `0x${"00".repeat(20)}`;
const sessionChannels = [31337, 84532].flatMap((chainId) => [
  sessionChannel(chainId, addressOf(signerKey), signerKey),
  sessionChannel(chainId, NOBODY, payerKey),
]);

const document = {
  x402: { addresses: X402, config, ...x402, chains: x402Chains },
  session: { permit2: PERMIT2, ...session, channels: sessionChannels },
};
writeFileSync(fileURLToPath(new URL("../vectors/escrows.json", import.meta.url)), `${JSON.stringify(document, null, 2)}\n`);
