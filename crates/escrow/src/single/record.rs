//! What is kept of a single payment: what sends it, and what finds its transaction again. Integers big-endian.
//!
//! ```text
//! transfer:    version (1) ‖ kind (1) ‖ block (8) ‖ token ‖ payer ‖ receiver (20 each) ‖ amount (16) ‖ begins ‖ ends ‖ nonce (32 each) ‖ signature
//! transaction: version (1) ‖ flags (1): 1 answered, 2 made ‖ the made one's hash (32) ‖ versions
//! version:     nonce (8) ‖ gas limit (8) ‖ fee (16) ‖ priority fee (16) ‖ hash (32)
//! ```

use bytes::Bytes;
use millstream_chain::x402::{ExactPermit2, ExactTransfer, Made};
use millstream_chain::{Call, ChainError, PERMIT2, Rpc, Submitter, TxVersion, token_allowance, token_balance};
use millstream_engine::escrow::AuthorizationId;
use millstream_gateway::port::{Rejection, Uncollectable};
use millstream_gateway::tender::{SinglePayment, SingleTransfer};
use millstream_types::{Address, Amount, Hash256, Uint256};
use millstream_voucher::evm::{EvmSignature, TransferWitness, X402_EXACT_PERMIT2_PROXY};
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;
const ANSWERED: u8 = 1;
const MADE: u8 = 2;

/// A record that this program did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is kept of a single payment is not readable")]
pub(super) struct Unreadable;

/// What moves a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    Erc3009(ExactTransfer),
    Permit2(ExactPermit2),
}

/// A payment as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptTransfer {
    pub(super) transfer: Transfer,
    /// In this block it was not made yet.
    pub(super) since: u64,
}

impl Transfer {
    pub(super) fn of(payment: &SinglePayment) -> Self {
        let (token, from, to, amount) = (payment.token, payment.payer, payment.receiver, payment.amount);
        match &payment.transfer {
            SingleTransfer::Erc3009(signed) => {
                let statement = signed.statement();
                let (valid_after, valid_before, nonce) = (statement.valid_after, statement.valid_before, statement.nonce);
                Self::Erc3009(ExactTransfer {
                    token,
                    from,
                    to,
                    amount,
                    valid_after,
                    valid_before,
                    nonce,
                    signature: signed.signature().clone(),
                })
            }
            SingleTransfer::Permit2(signed) => {
                let statement = signed.statement();
                let valid_after = match statement.witness {
                    TransferWitness::X402Exact { valid_after, .. } => valid_after,
                    // The gateway makes no other.
                    _ => Uint256::ZERO,
                };
                let (nonce, deadline, signature) = (statement.nonce, statement.deadline, signed.signature().clone());
                Self::Permit2(ExactPermit2 { token, from, to, amount, nonce, deadline, valid_after, signature })
            }
        }
    }

    /// What names the payment (R-25): whoever counts the nonce, the payer and the nonce.
    pub(super) fn authorization(&self) -> AuthorizationId {
        let (counter, payer, nonce) = match self {
            Self::Erc3009(transfer) => (transfer.token, transfer.from, *transfer.nonce.as_bytes()),
            Self::Permit2(permit) => (PERMIT2, permit.from, permit.nonce.to_be_bytes()),
        };
        let mut hash = Sha256::new();
        hash.update(b"millstream/authorisation/");
        hash.update(counter.as_bytes());
        hash.update(payer.as_bytes());
        hash.update(nonce);
        AuthorizationId::from_bytes(hash.finalize().into())
    }

    pub(super) fn payer(&self) -> Address {
        self.parts().1
    }

    fn parts(&self) -> (Address, Address, Amount) {
        match self {
            Self::Erc3009(transfer) => (transfer.token, transfer.from, transfer.amount),
            Self::Permit2(permit) => (permit.token, permit.from, permit.amount),
        }
    }

    /// The call that would be taken now, by simulation.
    pub(super) async fn call(&self, submitter: &Submitter) -> Result<Call, ChainError> {
        match self {
            Self::Erc3009(transfer) => transfer.call(submitter).await,
            Self::Permit2(permit) => {
                let call = permit.call();
                submitter.simulate(&call).await.map(|_| call)
            }
        }
    }

    /// The calls that it may have been sent by.
    pub(super) fn calls(&self) -> Vec<Call> {
        match self {
            Self::Erc3009(transfer) => transfer.calls(),
            Self::Permit2(permit) => vec![permit.call()],
        }
    }

    pub(super) async fn is_used(&self, rpc: &Rpc) -> Result<bool, ChainError> {
        match self {
            Self::Erc3009(transfer) => transfer.is_used(rpc).await,
            Self::Permit2(permit) => permit.is_used(rpc).await,
        }
    }

    pub(super) async fn made_by(&self, rpc: &Rpc, since: u64) -> Result<Option<Made>, ChainError> {
        match self {
            Self::Erc3009(transfer) => transfer.made_by(rpc, since).await,
            Self::Permit2(permit) => permit.made_by(rpc, since).await,
        }
    }

    /// What is wrong with a payment that the chain does not take.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub(super) async fn why_not(&self, rpc: &Rpc, reason: String, is_verified: bool) -> Result<Rejection, ChainError> {
        let uncollectable = |why| Rejection::Uncollectable { why, reason: reason.clone() };
        let (token, payer, amount) = self.parts();
        if let Self::Permit2(_) = self
            && !(rpc.is_contract(X402_EXACT_PERMIT2_PROXY).await? && rpc.is_contract(PERMIT2).await?)
        {
            return Ok(uncollectable(Uncollectable::NoContract));
        }
        match self.is_used(rpc).await {
            Ok(false) => {}
            Ok(true) => return Ok(Rejection::AuthorizationUsed),
            Err(error) if error.is_retryable() => return Err(error),
            Err(_) => return Ok(uncollectable(Uncollectable::NoContract)),
        }
        if token_balance(rpc, token, payer).await? < amount.units() {
            return Ok(uncollectable(Uncollectable::Balance));
        }
        if let Self::Permit2(_) = self
            && token_allowance(rpc, token, payer, PERMIT2).await? < amount.units()
        {
            return Ok(uncollectable(Uncollectable::Allowance));
        }
        Ok(if is_verified { uncollectable(Uncollectable::Simulation) } else { Rejection::BadSignature })
    }
}

impl KeptTransfer {
    pub(super) fn encode(&self) -> Bytes {
        let (kind, to, begins, ends, nonce, signature) = match &self.transfer {
            Transfer::Erc3009(transfer) => {
                let (begins, ends, nonce) = (transfer.valid_after, transfer.valid_before, *transfer.nonce.as_bytes());
                (1, transfer.to, begins, ends, nonce, &transfer.signature)
            }
            Transfer::Permit2(permit) => (2, permit.to, permit.valid_after, permit.deadline, permit.nonce.to_be_bytes(), &permit.signature),
        };
        let (token, from, amount) = self.transfer.parts();
        let mut bytes = vec![VERSION, kind];
        bytes.extend_from_slice(&self.since.to_be_bytes());
        for address in [token, from, to] {
            bytes.extend_from_slice(address.as_bytes());
        }
        bytes.extend_from_slice(&amount.units().to_be_bytes());
        for word in [begins.to_be_bytes(), ends.to_be_bytes(), nonce] {
            bytes.extend_from_slice(&word);
        }
        bytes.extend_from_slice(signature.as_bytes());
        bytes.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader(bytes);
        let [VERSION, kind] = reader.take()? else { return Err(Unreadable) };
        let since = u64::from_be_bytes(reader.take()?);
        let [token, from, to] = [reader.address()?, reader.address()?, reader.address()?];
        let amount = Amount::from_units(u128::from_be_bytes(reader.take()?));
        let [begins, ends] = [Uint256::from_be_bytes(reader.take()?), Uint256::from_be_bytes(reader.take()?)];
        let nonce: [u8; 32] = reader.take()?;
        let signature = EvmSignature::new(reader.0.to_vec()).map_err(|_| Unreadable)?;
        let transfer = match kind {
            1 => {
                let (valid_after, valid_before, nonce) = (begins, ends, Hash256::from_bytes(nonce));
                Transfer::Erc3009(ExactTransfer { token, from, to, amount, valid_after, valid_before, nonce, signature })
            }
            2 => {
                let (valid_after, deadline, nonce) = (begins, ends, Uint256::from_be_bytes(nonce));
                Transfer::Permit2(ExactPermit2 { token, from, to, amount, nonce, deadline, valid_after, signature })
            }
            _ => return Err(Unreadable),
        };
        Ok(Self { transfer, since })
    }
}

/// What was sent, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Oldest first, all with one nonce.
    pub(super) versions: Vec<TxVersion>,
    /// The one that made the payment, whoever sent it.
    pub(super) made: Option<Hash256>,
    /// What it pays may have left: nobody is answered for it again.
    pub(super) is_answered: bool,
}

impl Sent {
    /// Another version. One under another nonce takes the place of all: they can no longer be mined.
    pub(super) fn add(&mut self, version: TxVersion) {
        if self.versions.last().is_some_and(|last| last.tx_nonce != version.tx_nonce) {
            self.versions.clear();
        }
        self.versions.push(version);
    }

    /// The transaction as far as it is known.
    pub(super) fn transaction(&self) -> Option<Hash256> {
        self.made.or(self.versions.last().map(|version| version.transaction))
    }

    pub(super) fn encode(&self) -> Bytes {
        let flags = if self.is_answered { ANSWERED } else { 0 } | if self.made.is_some() { MADE } else { 0 };
        let mut bytes = vec![VERSION, flags];
        if let Some(made) = &self.made {
            bytes.extend_from_slice(made.as_bytes());
        }
        for version in &self.versions {
            bytes.extend_from_slice(&version.tx_nonce.to_be_bytes());
            bytes.extend_from_slice(&version.gas_limit.to_be_bytes());
            bytes.extend_from_slice(&version.max_fee_per_gas.to_be_bytes());
            bytes.extend_from_slice(&version.priority_fee_per_gas.to_be_bytes());
            bytes.extend_from_slice(version.transaction.as_bytes());
        }
        bytes.into()
    }

    /// Nothing is what was never sent from here.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader(bytes);
        let [VERSION, flags] = reader.take()? else { return Err(Unreadable) };
        if flags & !(ANSWERED | MADE) != 0 {
            return Err(Unreadable);
        }
        let made = if flags & MADE == 0 { None } else { Some(Hash256::from_bytes(reader.take()?)) };
        let mut versions = Vec::new();
        while !reader.0.is_empty() {
            versions.push(TxVersion {
                tx_nonce: u64::from_be_bytes(reader.take()?),
                gas_limit: u64::from_be_bytes(reader.take()?),
                max_fee_per_gas: u128::from_be_bytes(reader.take()?),
                priority_fee_per_gas: u128::from_be_bytes(reader.take()?),
                transaction: Hash256::from_bytes(reader.take()?),
            });
        }
        Ok(Self { versions, made, is_answered: flags & ANSWERED != 0 })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn address(&mut self) -> Result<Address, Unreadable> {
        self.take().map(Address::from_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfers() -> [Transfer; 2] {
        let address = |byte| Address::from_bytes([byte; 20]);
        let (token, from, to, amount) = (address(1), address(2), address(3), Amount::from_units(u128::MAX));
        let signature = EvmSignature::new([7; 65]).expect("short");
        let nonce = Hash256::from_bytes([9; 32]);
        [
            Transfer::Erc3009(ExactTransfer {
                token,
                from,
                to,
                amount,
                valid_after: Uint256::from(4u64),
                valid_before: Uint256::MAX,
                nonce,
                signature: signature.clone(),
            }),
            Transfer::Permit2(ExactPermit2 {
                token,
                from,
                to,
                amount,
                nonce: Uint256::from_be_bytes([9; 32]),
                deadline: Uint256::from(5u64),
                valid_after: Uint256::ZERO,
                signature,
            }),
        ]
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_shorter() {
        for transfer in transfers() {
            let kept = KeptTransfer { transfer, since: 77 };
            let bytes = kept.encode();
            assert_eq!(KeptTransfer::decode(&bytes), Ok(kept));
            for end in 0..bytes.len() - 65 {
                assert_eq!(KeptTransfer::decode(&bytes[..end]), Err(Unreadable), "{end}");
            }
            assert_eq!(KeptTransfer::decode(&[&[2], &bytes[1..]].concat()), Err(Unreadable));
        }
        let version = |tx_nonce| TxVersion {
            tx_nonce,
            gas_limit: 4,
            max_fee_per_gas: 5,
            priority_fee_per_gas: u128::MAX,
            transaction: Hash256::from_bytes([3; 32]),
        };
        for (versions, made, is_answered) in [
            (vec![], None, false),
            (vec![version(1)], None, true),
            (vec![version(1), version(1)], Some(Hash256::from_bytes([5; 32])), false),
        ] {
            let sent = Sent { versions, made, is_answered };
            assert_eq!(Sent::decode(&sent.encode()), Ok(sent));
        }
        assert_eq!(Sent::decode(&[]), Ok(Sent::default()));
        assert_eq!(Sent::decode(&[1, 4]), Err(Unreadable));
        assert_eq!(Sent::decode(&[1, 0, 1]), Err(Unreadable));
    }

    #[test]
    fn a_nonce_names_a_payment_of_its_payer_and_way() {
        let [token, permit2] = transfers();
        assert_ne!(token.authorization(), permit2.authorization());
        let Transfer::Erc3009(transfer) = token.clone() else { panic!("by the token") };
        let dearer = Transfer::Erc3009(ExactTransfer { amount: Amount::from_units(1), ..transfer });
        assert_eq!(dearer.authorization(), token.authorization());
    }
}
