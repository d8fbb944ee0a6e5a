//! Whose signature a voucher carries, where only the chain knows.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use millstream_chain::ask_contract;
use millstream_gateway::port::{PortError, Rejection};
use millstream_gateway::tender::{ChannelTerms, Tender, TenderVoucher};
use millstream_types::Address;
use millstream_voucher::evm::{Checked, EscrowScheme, Evidence, Signer, VerifiedEscrowVoucher};

use super::Inner;
use crate::board::unavailable;
use crate::lock::lock;

/// For how long an account that had no code is taken to have none. It can take code on at any time, also right after it was looked at, so
/// this opens nothing: a claim that its code refuses is put into quarantine.
const NO_CODE_FOR: Duration = Duration::from_secs(60);
/// Accounts that are remembered, at most.
const ACCOUNTS_MAX: usize = 65_536;

/// Accounts without code, and since when that is known.
#[derive(Default)]
pub(super) struct Codes(Mutex<HashMap<Address, Instant>>);

impl Codes {
    fn is_known_to_have_none(&self, account: &Address) -> bool {
        lock(&self.0).get(account).is_some_and(|at| at.elapsed() < NO_CODE_FOR)
    }

    fn has_none(&self, account: Address) {
        let mut known = lock(&self.0);
        if known.len() >= ACCOUNTS_MAX {
            known.retain(|_, at| at.elapsed() < NO_CODE_FOR);
        }
        if known.len() < ACCOUNTS_MAX {
            known.insert(account, Instant::now());
        }
    }
}

/// A signer, as it signed.
pub(super) fn of(account: Address, voucher: Option<&VerifiedEscrowVoucher>) -> Signer {
    match voucher.map(VerifiedEscrowVoucher::evidence) {
        Some(Evidence::Contract { .. }) => Signer::Contract(account),
        Some(Evidence::Key) | None => Signer::Key(account),
    }
}

impl Inner {
    /// The tender's voucher, verified.
    pub(super) async fn verified(&self, tender: &Tender) -> Result<Option<VerifiedEscrowVoucher>, PortError> {
        let signed = match &tender.voucher {
            None => return Ok(None),
            Some(TenderVoucher::Verified(voucher)) => return Ok(Some(voucher.clone())),
            Some(TenderVoucher::ForTheChain(signed)) => signed.clone(),
        };
        let account = match &tender.terms {
            Some(ChannelTerms::X402(config)) => config.voucher_signer(),
            Some(ChannelTerms::Session(terms)) => terms.voucher_signer(),
            None => self.board.snapshot(tender.channel).await?.ok_or(Rejection::UnknownChannel)?.terms.signer,
        };
        let domain = &tender.escrow;
        // The session escrow takes a key's signature whatever code the account has (E-25).
        if domain.scheme() != EscrowScheme::X402Batch
            && let Ok(verified) = signed.clone().verify(domain, account)
        {
            return Ok(Some(verified));
        }
        let checked = signed.check(domain, self.signer(account).await?).map_err(|_| Rejection::BadSignature)?;
        let question = match checked {
            Checked::Verified(verified) => return Ok(Some(verified)),
            Checked::Ask(question) => question,
        };
        let answer = ask_contract(&self.rpc, question.account(), *question.digest(), question.signature()).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(%error, "a contract cannot be asked whether it signed");
            unavailable()
        })?;
        Ok(Some(question.answered(&answer).map_err(|_| Rejection::BadSignature)?))
    }

    async fn signer(&self, account: Address) -> Result<Signer, PortError> {
        if self.codes.is_known_to_have_none(&account) {
            return Ok(Signer::Key(account));
        }
        let has_code = self.rpc.is_contract(account).await.map_err(|error| {
            tracing::warn!(%error, "an account's code cannot be looked at");
            unavailable()
        })?;
        if has_code {
            return Ok(Signer::Contract(account));
        }
        self.codes.has_none(account);
        Ok(Signer::Key(account))
    }
}
