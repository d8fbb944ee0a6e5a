//! Keys, proofs and public inputs in the JSON of snarkjs, so that an independent program can check our proofs.

use core::fmt::Display;

use ark_bn254::{Fr, G1Affine, G2Affine};
use serde_json::{Value, json};

use crate::proof::Proof;
use crate::verifying_key::VerifyingKey;

/// `verification_key.json`.
#[must_use]
pub fn verification_key(key: &VerifyingKey) -> Value {
    let key = key.as_ark();
    json!({
        "protocol": "groth16",
        "curve": "bn128",
        "nPublic": key.gamma_abc_g1.len() - 1,
        "vk_alpha_1": g1(&key.alpha_g1),
        "vk_beta_2": g2(&key.beta_g2),
        "vk_gamma_2": g2(&key.gamma_g2),
        "vk_delta_2": g2(&key.delta_g2),
        "IC": key.gamma_abc_g1.iter().map(g1).collect::<Vec<_>>(),
    })
}

/// `proof.json`.
#[must_use]
pub fn proof(proof: &Proof) -> Value {
    let proof = proof.as_ark();
    json!({
        "protocol": "groth16",
        "curve": "bn128",
        "pi_a": g1(&proof.a),
        "pi_b": g2(&proof.b),
        "pi_c": g1(&proof.c),
    })
}

/// `public.json`: `[C, r, y]`.
#[must_use]
pub fn public(inputs: &[Fr; 3]) -> Value {
    inputs.iter().map(decimal).collect()
}

fn decimal(value: impl Display) -> Value {
    Value::String(value.to_string())
}

fn g1(point: &G1Affine) -> Value {
    json!([decimal(point.x), decimal(point.y), "1"])
}

/// Unlike EIP-197, snarkjs writes `c0` first.
fn g2(point: &G2Affine) -> Value {
    json!([[decimal(point.x.c0), decimal(point.x.c1)], [decimal(point.y.c0), decimal(point.y.c1)], ["1", "0"]])
}
