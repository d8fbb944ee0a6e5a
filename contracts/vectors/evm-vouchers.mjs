// Writes the vectors of `evm-vouchers.json` with viem, which is what payers' wallets sign with: `node evm-vouchers.mjs > evm-vouchers.json`.
import { hashTypedData, hashDomain, encodeAbiParameters, keccak256, encodePacked } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const key = (byte) => privateKeyToAccount(`0x${byte.repeat(32)}`);
const [payer, authorizer, receiverAuthorizer] = ["11", "22", "33"].map(key);
const receiver = "0x4444444444444444444444444444444444444444";
const token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const permit2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3";
const escrow = "0x5555555555555555555555555555555555555555";
const zero = "0x0000000000000000000000000000000000000000";
const word = (byte) => `0x${byte.repeat(32)}`;
const fields = (text) => text.split(",").map((field) => { const [type, name] = field.split(" "); return { type, name }; });
const cases = [];
for (const chainId of [84532, 31337]) {
  const add = async (name, account, domain, types, primaryType, message) => {
    const typed = { domain, types, primaryType, message };
    cases.push({ name, chainId, signer: account.address, digest: hashTypedData(typed), signature: await account.signTypedData(typed) });
  };
  const x402 = { name: "x402 Batch Settlement", version: "1", chainId, verifyingContract: "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003" };
  const session = { name: "EVM Payment Channel", version: "1", chainId, verifyingContract: escrow };
  const usdc = { name: "USDC", version: "2", chainId, verifyingContract: token };
  const permit = { name: "Permit2", chainId, verifyingContract: permit2 };
  const config = { payer: payer.address, payerAuthorizer: authorizer.address, receiver, receiverAuthorizer: receiverAuthorizer.address, token, withdrawDelay: 900, salt: `0x${"0".repeat(63)}1` };
  const configTypes = { ChannelConfig: fields("address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt") };
  const channelId = hashTypedData({ domain: x402, types: configTypes, primaryType: "ChannelConfig", message: config });
  const depositNonce = keccak256(encodeAbiParameters([{ type: "bytes32" }, { type: "uint256" }], [channelId, 7n]));
  const transfer = fields("address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce");
  const pull = { from: payer.address, to: "0x4020806089470a89826cB9fB1f4059150b550004", value: 10000n, validAfter: 5n, validBefore: 2n ** 256n - 1n, nonce: depositNonce };
  await add("x402 config", payer, x402, configTypes, "ChannelConfig", config);
  await add("x402 voucher", authorizer, x402, { Voucher: fields("bytes32 channelId,uint128 maxClaimableAmount") }, "Voucher", { channelId, maxClaimableAmount: 1000n });
  await add("x402 refund", receiverAuthorizer, x402, { Refund: fields("bytes32 channelId,uint256 nonce,uint128 amount") }, "Refund", { channelId, nonce: 0n, amount: 500n });
  const rows = [{ channelId, maxClaimableAmount: 1000n, totalClaimed: 700n }, { channelId: word("09"), maxClaimableAmount: 2n ** 128n - 1n, totalClaimed: 1n }];
  const batchTypes = { ClaimBatch: fields("ClaimEntry[] claims"), ClaimEntry: fields("bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed") };
  for (const count of [0, 1, 2]) await add(`x402 claims ${count}`, receiverAuthorizer, x402, batchTypes, "ClaimBatch", { claims: rows.slice(0, count) });
  await add("receive", payer, usdc, { ReceiveWithAuthorization: transfer }, "ReceiveWithAuthorization", pull);
  await add("transfer", payer, usdc, { TransferWithAuthorization: transfer }, "TransferWithAuthorization", pull);
  const permissions = fields("address token,uint256 amount");
  const permitFields = (witness) => [{ name: "permitted", type: "TokenPermissions" }, { name: "spender", type: "address" }, { name: "nonce", type: "uint256" }, { name: "deadline", type: "uint256" }, { name: "witness", type: witness }];
  const witnesses = {
    "permit2 exact": ["Witness", "address to,uint256 validAfter", { to: receiver, validAfter: 5n }],
    "permit2 upto": ["Witness", "address to,address facilitator,uint256 validAfter", { to: receiver, facilitator: escrow, validAfter: 5n }],
    "permit2 deposit": ["DepositWitness", "bytes32 channelId", { channelId }],
    "permit2 open": ["ChannelOpenWitness", "address payee,bytes32 salt,address authorizedSigner", { payee: receiver, salt: word("77"), authorizedSigner: authorizer.address }],
    "permit2 top-up": ["ChannelTopUpWitness", "bytes32 channelId", { channelId }],
    "permit2 charge": ["PaymentWitness", "bytes32 challengeHash,string externalId", { challengeHash: keccak256(encodePacked(["string", "string"], ["offer-1", "api.example.com"])), externalId: "order 9" }],
  };
  for (const [name, [type, members, witness]] of Object.entries(witnesses)) {
    await add(name, payer, permit, { PermitWitnessTransferFrom: permitFields(type), TokenPermissions: permissions, [type]: fields(members) }, "PermitWitnessTransferFrom",
      { permitted: { token, amount: 10000n }, spender: escrow, nonce: 2n ** 255n, deadline: 1743523500n, witness });
  }
  const [type, members, witness] = witnesses["permit2 charge"];
  const batch = permitFields(type); batch[0].type = "TokenPermissions[]";
  await add("permit2 charge of two", payer, permit, { PermitBatchWitnessTransferFrom: batch, TokenPermissions: permissions, [type]: fields(members) }, "PermitBatchWitnessTransferFrom",
    { permitted: [{ token, amount: 9000n }, { token, amount: 1000n }], spender: escrow, nonce: 1n, deadline: 1743523500n, witness });
  const voucher = { Voucher: fields("bytes32 channelId,uint128 cumulativeAmount") };
  await add("session voucher", authorizer, session, voucher, "Voucher", { channelId, cumulativeAmount: 2n ** 128n - 1n });
  for (const primary of ["SettleAuthorization", "CloseAuthorization"]) {
    await add(`session ${primary}`, receiverAuthorizer, session, { [primary]: fields("bytes32 channelId,uint128 cumulativeAmount,uint256 nonce,uint256 deadline") }, primary, { channelId, cumulativeAmount: 42n, nonce: 3n, deadline: 1743523500n });
  }
  await add("tempo v1 voucher", authorizer, { ...session, name: "Tempo Stream Channel" }, voucher, "Voucher", { channelId, cumulativeAmount: 250000n });
  const tempo = { ...session, name: "TIP20 Channel Reserve" };
  for (const primary of ["Voucher", "CloseAuthorization"]) await add(`tempo v2 ${primary}`, authorizer, tempo, { [primary]: fields("bytes32 channelId,uint96 cumulativeAmount") }, primary, { channelId, cumulativeAmount: 2n ** 96n - 1n });
  const hash = (name, types, values) => cases.push({ name, chainId, digest: keccak256(encodeAbiParameters(types.split(",").map((type) => ({ type })), values)) });
  hash("session channel", "address,address,address,bytes32,address,address,uint256", [payer.address, receiver, token, word("77"), zero, escrow, BigInt(chainId)]);
  hash("session open nonce", "address,address,address,bytes32,address", [payer.address, receiver, token, word("77"), zero]);
  hash("session top-up nonce", "bytes32,uint128,address,bytes32", [channelId, 5000n, payer.address, word("88")]);
  hash("tempo v2 channel", "address,address,address,address,bytes32,address,bytes32,address,uint256", [payer.address, receiver, escrow, token, word("77"), zero, word("99"), escrow, BigInt(chainId)]);
  cases.push({ name: "x402 domain", chainId, digest: hashDomain({ domain: x402, types: { EIP712Domain: fields("string name,string version,uint256 chainId,address verifyingContract") } }) });
}
console.log(JSON.stringify({ cases }, null, 2));
