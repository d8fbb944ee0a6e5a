//! Native hash trees and the field form of the ledger's words.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInteger, PrimeField};
use millstream_types::ChannelId;
use millstream_voucher::poseidon::{Tag, hash};

/// Values that one node of a tree hashes: the inputs of width 17.
pub(crate) const ARITY: usize = 16;

/// `tree(tag; leaves)` of the spec (section Books): 16 values to a hash, the last group filled with zeros, at least one level.
///
/// `tag` is one of the tags of width 17.
#[must_use]
pub(crate) fn tree(tag: Tag, leaves: &[Fr]) -> Fr {
    let mut level = nodes(tag, leaves);
    while level.len() > 1 {
        level = nodes(tag, &level);
    }
    level.first().copied().unwrap_or_else(|| hash(tag, &[Fr::ZERO; ARITY]))
}

/// The groups of 16 on the way from a leaf to the root, bottom up: what is hashed at each level of [`tree`].
///
/// # Panics
/// When there is no such leaf.
pub(crate) fn groups_above(tag: Tag, leaves: &[Fr], leaf: usize) -> Vec<[Fr; ARITY]> {
    let mut level = leaves.to_vec();
    let mut index = leaf;
    let mut path = Vec::new();
    loop {
        index /= ARITY;
        path.push(padded(&level[index * ARITY..level.len().min((index + 1) * ARITY)]));
        level = nodes(tag, &level);
        if level.len() == 1 {
            return path;
        }
    }
}

fn nodes(tag: Tag, values: &[Fr]) -> Vec<Fr> {
    values.chunks(ARITY).map(|group| hash(tag, &padded(group))).collect()
}

fn padded(group: &[Fr]) -> [Fr; ARITY] {
    let mut inputs = [Fr::ZERO; ARITY];
    inputs[..group.len()].copy_from_slice(group);
    inputs
}

/// The 32 bytes of a field element, as the ledger sees it: big-endian, below `p`.
#[must_use]
pub fn field_to_word(element: Fr) -> [u8; 32] {
    let mut word = [0; 32];
    word.copy_from_slice(&element.into_bigint().to_bytes_be());
    word
}

/// The field element of 32 big-endian bytes, or `None` from `p` up: no value has two words.
#[must_use]
pub fn field_from_word(word: &[u8; 32]) -> Option<Fr> {
    let element = Fr::from_be_bytes_mod_order(word);
    (field_to_word(element) == *word).then_some(element)
}

/// A uid as a field element; it has 248 bits, so the map is injective (V-2).
#[must_use]
pub fn uid_to_field(uid: &ChannelId) -> Fr {
    Fr::from_be_bytes_mod_order(uid.as_bytes())
}

#[cfg(test)]
mod tests {
    use ark_ff::Field;

    use super::*;

    #[test]
    fn a_tree_is_padded_with_zeros_and_has_at_least_one_level() {
        let leaves: Vec<Fr> = (1..=17u64).map(Fr::from).collect();
        let mut first = [Fr::ZERO; 16];
        first.copy_from_slice(&leaves[..16]);
        let mut second = [Fr::ZERO; 16];
        second[0] = leaves[16];
        let mut top = [Fr::ZERO; 16];
        top[0] = hash(Tag::DynamicNode, &first);
        top[1] = hash(Tag::DynamicNode, &second);
        assert_eq!(tree(Tag::DynamicNode, &leaves), hash(Tag::DynamicNode, &top));
        assert_eq!(tree(Tag::DynamicNode, &leaves[..16]), top[0]);
        assert_eq!(tree(Tag::DynamicNode, &leaves[16..]), top[1]);
        assert_ne!(tree(Tag::StaticNode, &leaves), tree(Tag::DynamicNode, &leaves));
    }

    #[test]
    fn a_word_is_canonical() {
        let largest = -Fr::ONE;
        assert_eq!(field_from_word(&field_to_word(largest)), Some(largest));
        let mut modulus = field_to_word(largest);
        modulus[31] += 1;
        assert_eq!(field_from_word(&modulus), None);
        assert_eq!(field_from_word(&[0xff; 32]), None);
    }
}
