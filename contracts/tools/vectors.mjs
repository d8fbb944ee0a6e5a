#!/usr/bin/env node
// Writes `vectors/groth16.json` and `vectors/babyjubjub.json`. Everything is derived from fixed numbers, so the files never change by chance.
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { bn254 } from "@noble/curves/bn254.js";

const P = bn254.fields.Fr.ORDER;
const mod = (a, m = P) => ((a % m) + m) % m;
const pow = (base, exponent, m = P) => {
  let result = 1n;
  for (base = mod(base, m); exponent > 0n; exponent >>= 1n, base = (base * base) % m) if (exponent & 1n) result = (result * base) % m;
  return result;
};
const inverse = (a) => pow(a, P - 2n);
const word = (value) => `0x${value.toString(16).padStart(64, "0")}`;
const write = (name, value) => {
  const directory = fileURLToPath(new URL("../vectors", import.meta.url));
  mkdirSync(directory, { recursive: true });
  writeFileSync(`${directory}/${name}`, `${JSON.stringify(value, null, 2)}\n`);
};

// --- A Groth16 instance whose every discrete logarithm is known, so that a proof needs no circuit: with A = a·G1, B = b·G2 the check
// e(A, B) = e(alpha, beta) · e(vkx, gamma) · e(C, delta) holds for C = (ab − alpha·beta − vkx·gamma) / delta · G1.
const G1 = bn254.G1.Point.BASE;
const G2 = bn254.G2.Point.BASE;
const g1 = (scalar) => {
  const { x, y } = G1.multiply(mod(scalar)).toAffine();
  return [x, y];
};
// EIP-197: the imaginary part first.
const g2 = (scalar) => {
  const { x, y } = G2.multiply(mod(scalar)).toAffine();
  return [x.c1, x.c0, y.c1, y.c0];
};
const number = (index) => pow(7n, 1_000_003n * BigInt(index) + 12345n);
const [alpha, beta, gamma, delta] = [1, 2, 3, 4].map(number);
const ic = [7, 8, 9, 10].map(number);
const instance = (a, b, inputs) => {
  const vkx = inputs.reduce((sum, input, i) => mod(sum + input * ic[i + 1]), ic[0]);
  const c = mod((a * b - alpha * beta - vkx * gamma) * inverse(delta));
  return { inputs: inputs.map(word), proof: [g1(a), g2(b), g1(c)].flat().map(word) };
};
write("groth16.json", {
  vk: [g1(alpha), g2(beta), g2(gamma), g2(delta), ...ic.map(g1)].flat().map(word),
  ...instance(number(5), number(6), [11, 12, 13].map(number)),
  // More proofs under the same key. The last two share A and B, and the last has inputs of zero.
  batch: [
    instance(number(20), number(21), [22, 23, 24].map(number)),
    instance(number(25), number(26), [number(27), number(28), P - 1n]),
    instance(number(30), number(31), [32, 33, 34].map(number)),
    instance(number(35), number(36), [37, 38, 39].map(number)),
    instance(number(35), number(36), [0n, 0n, 0n]),
  ],
});

// --- BabyJubJub: keys with a witness Q such that 8·Q has the x-coordinate of the key.
const A = 168700n;
const D = 168696n;
const L = 2736030358979909402780800718157159386076813972158567259200215660948447373041n;
const B8 = [
  5299619240641551281634865583518297030282874472190772894086521144482721001553n,
  16950150798460657717958625567821834550301663161624707787222815936182638968203n,
];
const add = ([x1, y1], [x2, y2]) => {
  const t = mod(D * mod(mod(x1 * x2) * mod(y1 * y2)));
  return [mod((x1 * y2 + y1 * x2) * inverse(1n + t)), mod((y1 * y2 - A * mod(x1 * x2)) * inverse(mod(1n - t)))];
};
const multiply = (point, scalar) => {
  let result = [0n, 1n];
  for (; scalar > 0n; scalar >>= 1n, point = add(point, point)) if (scalar & 1n) result = add(result, point);
  return result;
};
const onCurve = ([x, y]) => mod(A * x * x + y * y) === mod(1n + D * mod(x * x) * mod(y * y));
const sqrt = (n) => {
  // Tonelli-Shanks; P − 1 = odd · 2^28 and 5 is not a square.
  let [q, s] = [P - 1n, 0n];
  for (; q % 2n === 0n; q /= 2n) s += 1n;
  if (n !== 0n && pow(n, (P - 1n) / 2n) !== 1n) return null;
  let [m, t, r, z] = [s, pow(n, q), pow(n, (q + 1n) / 2n), pow(5n, q)];
  while (t !== 0n && t !== 1n) {
    let i = 0n;
    for (let u = t; u !== 1n; u = mod(u * u)) i += 1n;
    const w = pow(z, 1n << (m - i - 1n));
    [m, z] = [i, mod(w * w)];
    [t, r] = [mod(t * z), mod(r * w)];
  }
  return t === 0n ? 0n : r;
};
// The curve point with the smallest y from `from` on.
const pointFrom = (from) => {
  for (let y = from; ; y += 1n) {
    const x = sqrt(mod((1n - mod(y * y)) * inverse(mod(A - D * mod(y * y)))));
    if (x !== null && x !== 0n) return [x, y];
  }
};
const must = (condition, what) => {
  if (!condition) throw new Error(`vectors: ${what}`);
};

const eighth = (() => {
  let [r0, r1, s0, s1] = [8n, L, 1n, 0n];
  while (r1 !== 0n) [r0, r1, s0, s1] = [r1, r0 % r1, s1, s0 - (r0 / r1) * s1];
  return mod(s0, L);
})();
// l·P kills the prime part of a point, which leaves its small-order part; some point of the curve has all of order 8.
const order8 = (() => {
  for (let y = 2n; ; y += 1n) {
    const point = multiply(pointFrom(y), L);
    if (multiply(point, 4n)[0] === 0n && multiply(point, 4n)[1] !== 1n) return point;
  }
})();
const [order4, order2] = [multiply(order8, 2n), multiply(order8, 4n)];
const valid = [];
for (const secret of [1n, 2n, 3n, 1234567890123456789n, L - 1n, pow(3n, 200n) % L]) {
  const key = multiply(B8, secret);
  const q = multiply(B8, mod(secret * eighth, L));
  must(onCurve(q) && multiply(q, 8n)[0] === key[0], "a witness of a key");
  valid.push({ why: `the witness a signer makes, secret ${secret}`, key: [key[0], ...q] });
}
const [sample] = valid;
for (const [torsion, order] of [[order2, 2], [order4, 4], [order8, 8]]) {
  valid.push({ why: `another witness of the same key: plus a point of order ${order}`, key: [sample.key[0], ...add(sample.key.slice(1), torsion)] });
}
const outside = pointFrom(5n);
must(multiply(outside, L)[0] !== 0n || multiply(outside, L)[1] !== 1n, "a point outside the subgroup");
valid.push({ why: "a witness outside the subgroup", key: [multiply(outside, 8n)[0], ...outside] });

const [x, qx, qy] = sample.key;
// What three doublings make of a pair that need not be on the curve: the formula does not know d, so only the check of the curve stops it.
const octuple = ([x, y]) => {
  for (let i = 0; i < 3; i++) {
    const [ax2, y2] = [mod(A * x * x), mod(y * y)];
    [x, y] = [mod(2n * x * y * inverse(mod(ax2 + y2))), mod((y2 - ax2) * inverse(mod(2n - ax2 - y2)))];
  }
  return [x, y];
};
must(octuple([qx, qy])[0] === x, "octuple agrees with the group law");
must(!onCurve([3n, 5n]) && octuple([3n, 5n])[0] !== 0n, "a pair off the curve");
const invalid = [
  { why: "x of the key is zero, the witness the identity", key: [0n, 0n, 1n] },
  { why: "x of the key is zero, the witness of order 2", key: [0n, ...order2] },
  { why: "x of the key is zero, the witness of order 4", key: [0n, ...order4] },
  { why: "x of the key is zero, the witness of order 8", key: [0n, ...order8] },
  { why: "the key has order 4, the witness order 8", key: [order4[0], ...order8] },
  { why: "the key has order 8, the witness is the key", key: [order8[0], ...order8] },
  { why: "the key is the witness, not eight times it", key: [qx, qx, qy] },
  { why: "four times the witness", key: [multiply([qx, qy], 4n)[0], qx, qy] },
  { why: "the key is outside the subgroup, the witness is the key", key: [outside[0], ...outside] },
  { why: "the negative key", key: [mod(-x), qx, qy] },
  { why: "another key", key: [valid[1].key[0], qx, qy] },
  { why: "the witness is off the curve", key: [x, qx, mod(qy + 1n)] },
  { why: "the witness is off the curve, the key what doubling makes of it", key: [octuple([3n, 5n])[0], 3n, 5n] },
  { why: "the witness is (0, 0)", key: [x, 0n, 0n] },
  { why: "the key is zero and the witness (0, 0)", key: [0n, 0n, 0n] },
  { why: "x of the key is not canonical", key: [x + P, qx, qy] },
  { why: "x of the key is p", key: [P, 0n, 1n] },
  { why: "x of the witness is not canonical", key: [x, qx + P, qy] },
  { why: "y of the witness is not canonical", key: [x, qx, qy + P] },
];
const words = ({ why, key }) => ({ why, key: key.map(word) });
write("babyjubjub.json", { valid: valid.map(words), invalid: invalid.map(words) });
