//! Why a payment was not taken: the exact texts, which clients compare.
//!
//! Sources: the specifications of x402 v2 and its schemes, and the published clients (`@x402/evm` 2.27.0), which know some that the texts do
//! not and the other way round. A text that is in neither may still come; it is kept as text.

use core::fmt;
use core::str::FromStr;

macro_rules! reasons {
    ($($name:ident = $text:literal,)*) => {
        /// A reason, for `error`, `errorReason` and `invalidReason`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = concat!("`", $text, "`")] $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The text on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        impl FromStr for Reason {
            type Err = UnknownReason;

            fn from_str(text: &str) -> Result<Self, UnknownReason> {
                match text {
                    $($text => Ok(Self::$name),)*
                    _ => Err(UnknownReason),
                }
            }
        }
    };
}

/// A text that is no known reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a known reason")]
pub struct UnknownReason;

reasons! {
    InsufficientFunds = "insufficient_funds",
    InvalidNetwork = "invalid_network",
    InvalidPayload = "invalid_payload",
    InvalidPaymentRequirements = "invalid_payment_requirements",
    InvalidScheme = "invalid_scheme",
    UnsupportedScheme = "unsupported_scheme",
    InvalidX402Version = "invalid_x402_version",
    InvalidTransactionState = "invalid_transaction_state",
    UnexpectedVerifyError = "unexpected_verify_error",
    UnexpectedSettleError = "unexpected_settle_error",
    SettlementPending = "settlement_pending",
    Eip6492FactoryNotAllowed = "eip6492_factory_not_allowed",
    Permit2AllowanceRequired = "permit2_allowance_required",
    Permit2AmountMismatch = "permit2_amount_mismatch",
    Permit2DeadlineExpired = "permit2_deadline_expired",
    Permit2InsufficientBalance = "permit2_insufficient_balance",
    Permit2InvalidAmount = "permit2_invalid_amount",
    Permit2InvalidDestination = "permit2_invalid_destination",
    Permit2InvalidNonce = "permit2_invalid_nonce",
    Permit2InvalidOwner = "permit2_invalid_owner",
    Permit2NotYetValid = "permit2_not_yet_valid",
    Permit2PaymentTooEarly = "permit2_payment_too_early",
    Permit2ProxyNotDeployed = "permit2_proxy_not_deployed",
    Permit2SimulationFailed = "permit2_simulation_failed",
    Permit2TokenMismatch = "permit2_token_mismatch",
    Permit22612AmountMismatch = "permit2_2612_amount_mismatch",
    InvalidPermit2RecipientMismatch = "invalid_permit2_recipient_mismatch",
    InvalidPermit2Signature = "invalid_permit2_signature",
    InvalidPermit2Spender = "invalid_permit2_spender",
    InvalidEip2612ExtensionFormat = "invalid_eip2612_extension_format",
    InvalidErc20ApprovalExtensionFormat = "invalid_erc20_approval_extension_format",
    SmartWalletDeploymentFailed = "smart_wallet_deployment_failed",
    UnsupportedPayloadType = "unsupported_payload_type",
    ExactAuthorizationValue = "invalid_exact_evm_authorization_value",
    ExactEip3009NotSupported = "invalid_exact_evm_eip3009_not_supported",
    ExactFailedToParseSignature = "invalid_exact_evm_failed_to_parse_signature",
    ExactInsufficientBalance = "invalid_exact_evm_insufficient_balance",
    ExactMissingEip712Domain = "invalid_exact_evm_missing_eip712_domain",
    ExactNetworkMismatch = "invalid_exact_evm_network_mismatch",
    ExactNonceAlreadyUsed = "invalid_exact_evm_nonce_already_used",
    ExactPayloadAuthorizationValidAfter = "invalid_exact_evm_payload_authorization_valid_after",
    ExactPayloadAuthorizationValidBefore = "invalid_exact_evm_payload_authorization_valid_before",
    ExactPayloadAuthorizationValue = "invalid_exact_evm_payload_authorization_value",
    ExactPayloadAuthorizationValueMismatch = "invalid_exact_evm_payload_authorization_value_mismatch",
    ExactPayloadRecipientMismatch = "invalid_exact_evm_payload_recipient_mismatch",
    ExactPayloadSignature = "invalid_exact_evm_payload_signature",
    ExactRecipientMismatch = "invalid_exact_evm_recipient_mismatch",
    ExactScheme = "invalid_exact_evm_scheme",
    ExactSignature = "invalid_exact_evm_signature",
    ExactTokenNameMismatch = "invalid_exact_evm_token_name_mismatch",
    ExactTokenVersionMismatch = "invalid_exact_evm_token_version_mismatch",
    ExactTransactionFailed = "invalid_exact_evm_transaction_failed",
    ExactTransactionSimulationFailed = "invalid_exact_evm_transaction_simulation_failed",
    ExactTransferEventMismatch = "invalid_exact_evm_transfer_event_mismatch",
    UptoNetworkMismatch = "invalid_upto_evm_network_mismatch",
    UptoPayloadSettlementExceedsAmount = "invalid_upto_evm_payload_settlement_exceeds_amount",
    UptoScheme = "invalid_upto_evm_scheme",
    UptoTransactionFailed = "invalid_upto_evm_transaction_failed",
    UptoAmountExceedsPermitted = "upto_amount_exceeds_permitted",
    UptoFacilitatorMismatch = "upto_facilitator_mismatch",
    UptoUnauthorizedFacilitator = "upto_unauthorized_facilitator",
    BatchAuthorizerAddressMismatch = "invalid_batch_settlement_evm_authorizer_address_mismatch",
    BatchAuthorizerNotConfigured = "invalid_batch_settlement_evm_authorizer_not_configured",
    BatchChannelBusy = "invalid_batch_settlement_evm_channel_busy",
    BatchChannelIdInvalid = "invalid_batch_settlement_evm_channel_id_invalid",
    BatchChannelIdMismatch = "invalid_batch_settlement_evm_channel_id_mismatch",
    BatchChannelNotFound = "invalid_batch_settlement_evm_channel_not_found",
    BatchChargeExceedsSignedCumulative = "invalid_batch_settlement_evm_charge_exceeds_signed_cumulative",
    BatchClaimSimulationFailed = "invalid_batch_settlement_evm_claim_simulation_failed",
    BatchClaimTransactionFailed = "invalid_batch_settlement_evm_claim_transaction_failed",
    BatchCumulativeAmountMismatch = "invalid_batch_settlement_evm_cumulative_amount_mismatch",
    BatchCumulativeBelowClaimed = "invalid_batch_settlement_evm_cumulative_below_claimed",
    BatchCumulativeExceedsBalance = "invalid_batch_settlement_evm_cumulative_exceeds_balance",
    BatchDepositBelowMinDeposit = "invalid_batch_settlement_evm_deposit_below_min_deposit",
    BatchDepositSimulationFailed = "invalid_batch_settlement_evm_deposit_simulation_failed",
    BatchDepositTransactionFailed = "invalid_batch_settlement_evm_deposit_transaction_failed",
    BatchEip2612AmountMismatch = "invalid_batch_settlement_evm_eip2612_amount_mismatch",
    BatchEip2612AssetMismatch = "invalid_batch_settlement_evm_eip2612_asset_mismatch",
    BatchEip2612DeadlineExpired = "invalid_batch_settlement_evm_eip2612_deadline_expired",
    BatchEip2612OwnerMismatch = "invalid_batch_settlement_evm_eip2612_owner_mismatch",
    BatchEip2612SpenderMismatch = "invalid_batch_settlement_evm_eip2612_spender_mismatch",
    BatchEip6492FactoryNotAllowed = "invalid_batch_settlement_evm_eip6492_factory_not_allowed",
    BatchErc20ApprovalUnavailable = "invalid_batch_settlement_evm_erc20_approval_unavailable",
    BatchErc3009AuthorizationRequired = "invalid_batch_settlement_evm_erc3009_authorization_required",
    BatchInsufficientBalance = "invalid_batch_settlement_evm_insufficient_balance",
    BatchMissingChannel = "invalid_batch_settlement_evm_missing_channel",
    BatchMissingEip712Domain = "invalid_batch_settlement_evm_missing_eip712_domain",
    BatchNetworkMismatch = "invalid_batch_settlement_evm_network_mismatch",
    BatchNothingToSettle = "invalid_batch_settlement_evm_nothing_to_settle",
    BatchPayloadAuthorizationValidAfter = "invalid_batch_settlement_evm_payload_authorization_valid_after",
    BatchPayloadAuthorizationValidBefore = "invalid_batch_settlement_evm_payload_authorization_valid_before",
    BatchPayloadType = "invalid_batch_settlement_evm_payload_type",
    BatchPermit2AllowanceRequired = "invalid_batch_settlement_evm_permit2_allowance_required",
    BatchPermit2AmountMismatch = "invalid_batch_settlement_evm_permit2_amount_mismatch",
    BatchPermit2AuthorizationRequired = "invalid_batch_settlement_evm_permit2_authorization_required",
    BatchPermit2DeadlineExpired = "invalid_batch_settlement_evm_permit2_deadline_expired",
    BatchPermit2InvalidSignature = "invalid_batch_settlement_evm_permit2_invalid_signature",
    BatchPermit2InvalidSpender = "invalid_batch_settlement_evm_permit2_invalid_spender",
    BatchReceiveAuthorizationSignature = "invalid_batch_settlement_evm_receive_authorization_signature",
    BatchReceiverAuthorizerMismatch = "invalid_batch_settlement_evm_receiver_authorizer_mismatch",
    BatchReceiverMismatch = "invalid_batch_settlement_evm_receiver_mismatch",
    BatchRefundAmountInvalid = "invalid_batch_settlement_evm_refund_amount_invalid",
    BatchRefundNoBalance = "invalid_batch_settlement_evm_refund_no_balance",
    BatchRefundPayload = "invalid_batch_settlement_evm_refund_payload",
    BatchRefundSimulationFailed = "invalid_batch_settlement_evm_refund_simulation_failed",
    BatchRefundTransactionFailed = "invalid_batch_settlement_evm_refund_transaction_failed",
    BatchRpcReadFailed = "invalid_batch_settlement_evm_rpc_read_failed",
    BatchScheme = "invalid_batch_settlement_evm_scheme",
    BatchSettleSimulationFailed = "invalid_batch_settlement_evm_settle_simulation_failed",
    BatchSettleTransactionFailed = "invalid_batch_settlement_evm_settle_transaction_failed",
    BatchSmartWalletDeploymentFailed = "invalid_batch_settlement_evm_smart_wallet_deployment_failed",
    BatchTokenMismatch = "invalid_batch_settlement_evm_token_mismatch",
    BatchVerificationStateUnavailable = "invalid_batch_settlement_evm_verification_state_unavailable",
    BatchVoucherSignature = "invalid_batch_settlement_evm_voucher_signature",
    BatchWithdrawDelayMismatch = "invalid_batch_settlement_evm_withdraw_delay_mismatch",
    BatchWithdrawDelayOutOfRange = "invalid_batch_settlement_evm_withdraw_delay_out_of_range",
    BatchChannelStateReadFailed = "invalid_batch_settlement_evm_channel_state_read_failed",
    BatchClaimPayload = "invalid_batch_settlement_evm_claim_payload",
    BatchDepositPayload = "invalid_batch_settlement_evm_deposit_payload",
    BatchSettlePayload = "invalid_batch_settlement_evm_settle_payload",
    BatchVoucherPayload = "invalid_batch_settlement_evm_voucher_payload",
    BatchEip2612InvalidFormat = "invalid_batch_settlement_evm_eip2612_invalid_format",
    BatchEip2612InvalidSignature = "invalid_batch_settlement_evm_eip2612_invalid_signature",
    BatchErc20ApprovalAssetMismatch = "invalid_batch_settlement_evm_erc20_approval_asset_mismatch",
    BatchErc20ApprovalBroadcastFailed = "invalid_batch_settlement_evm_erc20_approval_broadcast_failed",
    BatchErc20ApprovalFromMismatch = "invalid_batch_settlement_evm_erc20_approval_from_mismatch",
    BatchErc20ApprovalInvalidFormat = "invalid_batch_settlement_evm_erc20_approval_invalid_format",
    BatchErc20ApprovalWrongSpender = "invalid_batch_settlement_evm_erc20_approval_wrong_spender",
    BatchTransactionReverted = "invalid_batch_settlement_evm_transaction_reverted",
    BatchUnknownSettleAction = "invalid_batch_settlement_evm_unknown_settle_action",
    BatchWaitForReceiptFailed = "invalid_batch_settlement_evm_wait_for_receipt_failed",
    BatchRefundAuthorizerMismatch = "invalid_batch_settlement_evm_refund_authorizer_mismatch",
    BatchRefundAuthorizerSignature = "invalid_batch_settlement_evm_refund_authorizer_signature",
}

impl Reason {
    /// Whether a payer may send the same payment again later: nothing is wrong with it.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::BatchChannelBusy
                | Self::BatchRpcReadFailed
                | Self::BatchChannelStateReadFailed
                | Self::BatchVerificationStateUnavailable
                | Self::BatchWaitForReceiptFailed
                | Self::UnexpectedVerifyError
                | Self::UnexpectedSettleError
                | Self::SettlementPending
        )
    }

    /// Whether a payer has to take over the state in the 402 before it pays again.
    #[must_use]
    pub const fn is_corrective(self) -> bool {
        matches!(self, Self::BatchCumulativeAmountMismatch | Self::BatchCumulativeBelowClaimed)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
