//! What is a session's own: its terms, and the deposits that come with them.

use std::sync::Arc;
use std::time::Duration;

use millstream_chain::session_escrow::{SentDeposit, SessionFunding, SessionOpening, SessionOperator, SessionTopUp};
use millstream_chain::{ChainError, ErrorKind, IntentId};
use millstream_dialect::mpp::{Funding, FundingAction};
use millstream_engine::escrow::{EscrowId, EscrowTerms};
use millstream_gateway::port::{Funded, PortError, Rejection};
use millstream_gateway::tender::{ChannelTerms, Tender};
use millstream_types::{Amount, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{SessionTerms, VerifiedEscrowVoucher};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::Inner;
use super::deposit::{Ended, Of, Plan, Wait, chain_failed, not_served};
use crate::board::{fault, unavailable};
use crate::follower::Look;
use crate::terms::{read_session_config, session_config};

/// Between two looks for a transaction that a payer has sent.
const SENT_PAUSE: Duration = Duration::from_millis(250);

/// The escrow of MPP sessions.
pub(crate) struct Sessions {
    /// Its number in the engine.
    pub(crate) escrow: EscrowId,
    /// Acts as the payee.
    pub(crate) operator: SessionOperator,
    pub(crate) looks: mpsc::Sender<Look>,
}

impl Inner {
    pub(super) fn sessions(&self) -> Result<&Sessions, PortError> {
        self.sessions.as_ref().ok_or_else(not_served)
    }

    /// The engine's terms for a session's channel.
    pub(super) fn session_terms(&self, channel: EscrowChannelId, terms: &SessionTerms) -> Result<EscrowTerms, PortError> {
        let sessions = self.sessions()?;
        let refuse = |reason: &str| PortError::from(Rejection::DepositRefused { reason: reason.to_owned() });
        if terms.channel_id(sessions.operator.contract().domain()) != channel {
            return Err(refuse("the channel is not that of its terms on the escrow that is served"));
        }
        if terms.token != self.token {
            return Err(refuse("the channel is in another token"));
        }
        if terms.payee != self.receiver {
            return Err(refuse("the channel pays somebody else"));
        }
        let (payer, signer, receiver) = (terms.payer, terms.voucher_signer(), terms.payee);
        Ok(EscrowTerms { channel, escrow: sessions.escrow, payer, signer, receiver, config: session_config(terms) })
    }

    /// The terms of a tender's channel: as they came with it, or as the engine has them.
    async fn known_terms(&self, tender: &Tender) -> Result<EscrowTerms, PortError> {
        if let Some(ChannelTerms::Session(terms)) = &tender.terms {
            return self.session_terms(tender.channel, terms);
        }
        let snapshot = self.board.snapshot(tender.channel).await?.ok_or(Rejection::UnknownChannel)?;
        Ok(snapshot.terms)
    }

    /// A deposit that this side submits.
    pub(super) async fn session_deposit(
        self: &Arc<Self>,
        tender: &Tender,
        (action, funding): (&FundingAction, &Funding),
        voucher: Option<&VerifiedEscrowVoucher>,
        wait: Wait,
    ) -> Ended {
        self.is_ours(tender)?;
        let (channel, amount) = (tender.channel, funding.amount());
        let terms = self.known_terms(tender).await?;
        let kept = read_session_config(&terms.config).map_err(fault)?;
        let (by, valid_before) = session_funding(funding);
        let of = match action {
            FundingAction::Open { .. } if funding.from() != kept.payer => {
                return Err(refuse("what is signed for the deposit is not the payer's"));
            }
            FundingAction::Open { .. } => Of::Open(SessionOpening { terms: kept, deposit: amount, funding: by }),
            FundingAction::TopUp { salt } => Of::TopUp(SessionTopUp {
                channel,
                from: funding.from(),
                additional: amount,
                // Only ERC-3009 has one.
                salt: salt.unwrap_or(Hash256::from_bytes([0; 32])),
                funding: by,
            }),
        };
        let intent = intent(&channel, action, funding);
        if !self.deposits.is_running(&channel, &IntentId::from_bytes(intent)) {
            let mut standing = self.board.standing(channel).await?;
            if standing.is_none() {
                self.look(terms.clone(), false, 0).await?;
                standing = self.board.standing(channel).await?;
            }
            // Gas is spent for nothing that is refused afterwards anyway.
            let there = standing.as_ref().map_or(Amount::ZERO, |standing| standing.announced);
            let covered = there.checked_add(amount).map_err(fault)?;
            if voucher.is_some_and(|voucher| voucher.statement().cumulative > CumulativeAmount::from_units(covered.units())) {
                let standing = standing.ok_or_else(|| refuse("the voucher is over more than the deposit"))?;
                return Err(Rejection::AboveDeposit(Box::new(standing)).into());
            }
        }
        let operator = &self.sessions()?.operator;
        let call = match &of {
            Of::Open(opening) => operator.open_call(opening),
            Of::TopUp(top_up) => operator.top_up_call(top_up),
            Of::X402 { .. } => return Err(not_served()),
        };
        self.see_to(Plan { intent, terms, call, funder: funding.from(), amount, valid_before, of }, wait).await
    }

    /// A deposit that the payer has sent itself: the chain says whether it is there, and how much.
    pub(super) async fn sent_deposit(self: &Arc<Self>, tender: &Tender, hash: Hash256) -> Ended {
        self.is_ours(tender)?;
        let terms = self.known_terms(tender).await?;
        let SentDeposit { block, amount, .. } = match tokio::time::timeout(self.deposit_wait, self.mined(tender.channel, hash)).await {
            Ok(mined) => mined?,
            Err(_) => return Err(unavailable()),
        };
        self.look(terms, false, block.height()).await?;
        Ok(Some(Funded { transaction: hash.to_string(), amount }))
    }

    /// Waits until the transaction is mined.
    async fn mined(&self, channel: EscrowChannelId, hash: Hash256) -> Result<SentDeposit, PortError> {
        loop {
            match self.sessions()?.operator.contract().deposit_in(hash, channel).await {
                Ok(Some(deposit)) => return Ok(deposit),
                Ok(None) => {}
                Err(ChainError::Reverted { revert, .. }) => return Err(Rejection::Reverted { reason: revert.to_string() }.into()),
                Err(ChainError::InvalidInput { .. }) => return Err(refuse("the transaction deposits nothing into the channel")),
                Err(error) if error.kind() == ErrorKind::Unavailable => {}
                Err(error) => return Err(chain_failed(&error)),
            }
            tokio::time::sleep(SENT_PAUSE).await;
        }
    }

    /// Whether the gateway offers the escrow that is served here.
    fn is_ours(&self, tender: &Tender) -> Result<(), PortError> {
        let served = self.sessions()?.operator.contract().domain();
        if tender.escrow == *served {
            Ok(())
        } else {
            Err(fault(format!("the gateway offers {:?}, and {served:?} is served", tender.escrow)))
        }
    }
}

fn refuse(reason: &str) -> PortError {
    Rejection::DepositRefused { reason: reason.to_owned() }.into()
}

/// The same deposit has the same intent, however often it comes.
fn intent(channel: &EscrowChannelId, action: &FundingAction, funding: &Funding) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"millstream/session-deposit");
    hash.update(channel.as_bytes());
    hash.update([match action {
        FundingAction::Open { .. } => 1,
        FundingAction::TopUp { .. } => 2,
    }]);
    hash.update(funding.from().as_bytes());
    hash.update(funding.amount().units().to_be_bytes());
    match funding {
        Funding::Authorization { authorization, .. } => {
            hash.update([1]);
            hash.update(authorization.nonce.as_bytes());
        }
        Funding::Permit2 { authorization, .. } => {
            hash.update([2]);
            hash.update(authorization.nonce.to_be_bytes());
        }
    }
    hash.finalize().into()
}

/// The payer's permission as the escrow's side has it, and when it ends.
fn session_funding(funding: &Funding) -> (SessionFunding, Uint256) {
    match funding {
        Funding::Authorization { authorization, signature } => {
            let by = SessionFunding::Erc3009 {
                valid_after: authorization.valid_after,
                valid_before: authorization.valid_before,
                signature: signature.clone(),
            };
            (by, authorization.valid_before)
        }
        Funding::Permit2 { authorization, signature } => {
            let by = SessionFunding::Permit2 { nonce: authorization.nonce, deadline: authorization.deadline, signature: signature.clone() };
            (by, authorization.deadline)
        }
    }
}
