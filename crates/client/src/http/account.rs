//! The payer's key, and what it signs: vouchers, deposits, transfers.

use millstream_dialect::mpp::{
    ChargePayload, ChargeRequest, CredentialType, Funding, FundingWitness, Offer, Permit2Funding, SessionRequest,
};
use millstream_dialect::x402::{
    Deposit, DepositAuthorization, DepositWitness, Erc3009Deposit, Erc3009Fields, Erc3009Payment, ExactOffer, ExactPayload, ExactWitness,
    Permit2Deposit, Permit2Fields, Permit2Payment, PermittedFields, TransferMethod,
};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{
    ChannelConfig, ERC3009_DEPOSIT_COLLECTOR, EscrowDomain, EscrowVoucher, EvmError, EvmSecretKey, PERMIT2, PERMIT2_DEPOSIT_COLLECTOR,
    Permit2Domain, Permit2Transfer, SessionTerms, SignedEscrowVoucher, Statement, TokenDomain, TokenPermissions, TransferAuthorization,
    TransferKind, TransferWitness, X402_EXACT_PERMIT2_PROXY, deposit_nonce, top_up_nonce,
};

use super::error::HttpPayError;

/// The key of the account that pays. It signs vouchers too.
#[derive(Clone, Debug)]
pub struct PayerAccount {
    key: EvmSecretKey,
}

/// From when to when something is good, in Unix seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    pub(super) after_secs: u64,
    pub(super) before_secs: u64,
}

pub(super) fn random_word() -> Result<[u8; 32], HttpPayError> {
    let mut word = [0; 32];
    getrandom::fill(&mut word).map_err(|_| HttpPayError::Randomness)?;
    Ok(word)
}

impl PayerAccount {
    /// From the 32 bytes of a secp256k1 secret. The caller wipes its own copy.
    ///
    /// # Errors
    /// [`EvmError::SecretRange`].
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, EvmError> {
        Ok(Self { key: EvmSecretKey::from_bytes(secret)? })
    }

    /// The account.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.key.account()
    }

    fn sign<T: Statement>(&self, statement: T, domain: &T::Domain) -> Result<millstream_voucher::evm::Signed<T>, HttpPayError> {
        Ok(self.key.sign(statement, domain).map_err(HttpPayError::Sign)?.into())
    }

    pub(super) fn voucher(
        &self,
        domain: &EscrowDomain,
        channel: EscrowChannelId,
        cumulative: CumulativeAmount,
    ) -> Result<SignedEscrowVoucher, HttpPayError> {
        self.sign(EscrowVoucher { channel, cumulative }, domain)
    }

    fn transfer(
        &self,
        kind: TransferKind,
        token: &TokenDomain,
        to: Address,
        value: Amount,
        validity: Validity,
        nonce: Hash256,
    ) -> Result<Erc3009Payment, HttpPayError> {
        let (valid_after, valid_before) = (Uint256::from(validity.after_secs), Uint256::from(validity.before_secs));
        let transfer = TransferAuthorization { kind, from: self.address(), to, value, valid_after, valid_before, nonce };
        let signature = self.sign(transfer, token)?.signature().clone();
        let authorization = Erc3009Fields { from: self.address(), to, value, valid_after, valid_before, nonce };
        Ok(Erc3009Payment { signature, authorization })
    }

    /// A deposit into a channel of x402: by the token where its domain is known, by Permit2 otherwise.
    pub(super) fn batch_deposit(
        &self,
        config: &ChannelConfig,
        domain: &EscrowDomain,
        channel: EscrowChannelId,
        amount: Amount,
        token: Option<&TokenDomain>,
        validity: Validity,
    ) -> Result<Deposit, HttpPayError> {
        let authorization = match token {
            Some(token) => {
                let salt = random_word()?;
                let nonce = deposit_nonce(&channel, Uint256::from_be_bytes(salt));
                let signed = self.transfer(TransferKind::Receive, token, ERC3009_DEPOSIT_COLLECTOR, amount, validity, nonce)?;
                DepositAuthorization::Erc3009(Erc3009Deposit {
                    valid_after: signed.authorization.valid_after,
                    valid_before: signed.authorization.valid_before,
                    salt: Hash256::from_bytes(salt),
                    signature: signed.signature,
                })
            }
            None => {
                let permitted = TokenPermissions { token: config.token, amount };
                let transfer = Permit2Transfer {
                    permitted: vec![permitted],
                    spender: PERMIT2_DEPOSIT_COLLECTOR,
                    nonce: Uint256::from_be_bytes(random_word()?),
                    deadline: Uint256::from(validity.before_secs),
                    witness: TransferWitness::X402Deposit { channel },
                };
                let (nonce, deadline) = (transfer.nonce, transfer.deadline);
                let signed = self.sign(transfer, &Permit2Domain::new(domain.chain(), PERMIT2))?;
                DepositAuthorization::Permit2(Permit2Deposit {
                    from: config.payer,
                    permitted: PermittedFields { token: config.token, amount },
                    spender: PERMIT2_DEPOSIT_COLLECTOR,
                    nonce,
                    deadline,
                    witness: DepositWitness { channel_id: channel },
                    signature: signed.signature().clone(),
                })
            }
        };
        Ok(Deposit { amount, authorization })
    }

    /// A deposit into a session: an opening with its terms, or a top-up with its salt.
    pub(super) fn session_funding(
        &self,
        request: &SessionRequest,
        channel: EscrowChannelId,
        opening: Option<&SessionTerms>,
        salt: &Hash256,
        (amount, validity): (Amount, Validity),
        token: Option<&TokenDomain>,
    ) -> Result<Funding, HttpPayError> {
        let escrow = request.method_details.escrow_contract;
        if let Some(token) = token {
            let nonce = opening.map_or_else(|| top_up_nonce(&channel, amount, &self.address(), salt), SessionTerms::open_nonce);
            let Erc3009Payment { signature, authorization } =
                self.transfer(TransferKind::Receive, token, escrow, amount, validity, nonce)?;
            return Ok(Funding::Authorization { authorization, signature });
        }
        let (witness, signed_witness) = match opening {
            Some(terms) => (
                FundingWitness::Open { payee: terms.payee, salt: terms.salt, authorized_signer: terms.authorized_signer },
                TransferWitness::ChannelOpen { payee: terms.payee, salt: terms.salt, authorized_signer: terms.authorized_signer },
            ),
            None => (FundingWitness::TopUp { channel_id: channel }, TransferWitness::ChannelTopUp { channel }),
        };
        let transfer = Permit2Transfer {
            permitted: vec![TokenPermissions { token: request.currency, amount }],
            spender: escrow,
            nonce: Uint256::from_be_bytes(random_word()?),
            deadline: Uint256::from(validity.before_secs),
            witness: signed_witness,
        };
        let (nonce, deadline) = (transfer.nonce, transfer.deadline);
        // Only the well-known Permit2 is signed for: another one could be anything.
        let signed = self.sign(transfer, &Permit2Domain::new(request.domain().chain(), PERMIT2))?;
        let authorization = Permit2Funding {
            from: self.address(),
            permitted: PermittedFields { token: request.currency, amount },
            nonce,
            deadline,
            witness,
        };
        Ok(Funding::Permit2 { authorization, signature: signed.signature().clone() })
    }

    /// A payment of x402 `exact`.
    pub(super) fn exact(&self, offer: &ExactOffer, token: Option<&TokenDomain>, validity: Validity) -> Result<ExactPayload, HttpPayError> {
        let word = random_word()?;
        match (offer.method, token) {
            (TransferMethod::Eip3009, Some(token)) => {
                let nonce = Hash256::from_bytes(word);
                self.transfer(TransferKind::Transfer, token, offer.pay_to, offer.amount, validity, nonce).map(ExactPayload::Erc3009)
            }
            (TransferMethod::Permit2 | TransferMethod::Eip3009, _) => {
                let witness = ExactWitness { to: offer.pay_to, valid_after: Uint256::from(validity.after_secs) };
                let fields = Permit2Fields {
                    from: self.address(),
                    permitted: PermittedFields { token: offer.asset, amount: offer.amount },
                    spender: X402_EXACT_PERMIT2_PROXY,
                    nonce: Uint256::from_be_bytes(word),
                    deadline: Uint256::from(validity.before_secs),
                    witness,
                };
                let transfer = Permit2Transfer {
                    permitted: vec![TokenPermissions { token: offer.asset, amount: offer.amount }],
                    spender: fields.spender,
                    nonce: fields.nonce,
                    deadline: fields.deadline,
                    witness: witness.into(),
                };
                let signed = self.sign(transfer, &Permit2Domain::new(offer.chain, PERMIT2))?;
                Ok(ExactPayload::Permit2(Permit2Payment { signature: signed.signature().clone(), permit2_authorization: fields }))
            }
        }
    }

    /// A payment of MPP `charge`, by the token. By Permit2 the spender would be whoever submits, whom the offer does not name.
    pub(super) fn charge(
        &self,
        offer: &Offer,
        request: &ChargeRequest,
        token: &TokenDomain,
        validity: Validity,
    ) -> Result<ChargePayload, HttpPayError> {
        debug_assert!(request.takes(CredentialType::Authorization), "looked at when the offer was read");
        let signed = self.transfer(TransferKind::Transfer, token, request.recipient, request.amount, validity, offer.hash())?;
        let Erc3009Fields { from, to, value, valid_after, valid_before, nonce } = signed.authorization;
        Ok(ChargePayload::Authorization { from, to, value, valid_after, valid_before, nonce, signature: signed.signature })
    }
}
