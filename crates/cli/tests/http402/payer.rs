//! A payer of x402 by hand, where thousands of vouchers have to be signed before they are sent, or a client has to misbehave.

use millstream_dialect::Object;
use millstream_dialect::x402::{
    BatchOffer, BatchPayload, BatchResponseExtra, Deposit, DepositAuthorization, Erc3009Deposit, PaymentPayload, PaymentRequired,
    PaymentRequirements, SettleResponse, VoucherFields, batch_domain,
};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{ChannelConfig, EscrowVoucher, EvmSecretKey, EvmSignature, TokenDomain};
use reqwest::{Client, Response, StatusCode};

use super::chain::Chain;

const CHAIN: ChainId = ChainId::new(31_337);

/// A channel that is opened by its first payment.
#[derive(Clone)]
pub struct Payer {
    key: EvmSecretKey,
    token: TokenDomain,
    pub offer: PaymentRequirements,
    pub config: ChannelConfig,
    pub channel: EscrowChannelId,
    /// What one request may cost.
    pub price: u128,
    client: Client,
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Option<String>,
    pub required: Option<PaymentRequired>,
    pub settled: Option<SettleResponse>,
}

impl Payer {
    /// With an account's key and the channel's salt, for what this address sells.
    pub async fn new(chain: &Chain, account: usize, salt: u8, url: &str) -> Self {
        let client = Client::new();
        let unpaid = read(client.get(url).send().await.expect("answered")).await;
        let offer = unpaid.required.expect("offers").accepts[0].clone();
        let batch = BatchOffer::from_requirements(&offer).expect("the scheme's");
        let key = EvmSecretKey::from_bytes(&DEV_ACCOUNTS[account].secret).expect("a key");
        let config = batch.config(key.account(), key.account(), Hash256::from_bytes([salt; 32]));
        let channel = config.channel_id(&batch_domain(CHAIN)).expect("40 bits");
        let token = TokenDomain::new("USD Coin", "2", CHAIN, chain.token);
        Self { key, token, offer, config, channel, price: batch.amount.units(), client }
    }

    /// The same channel, for another offer of the same provider.
    pub fn offered(&self, offer: PaymentRequirements) -> Self {
        let batch = BatchOffer::from_requirements(&offer).expect("the scheme's");
        Self { offer, price: batch.amount.units(), ..self.clone() }
    }

    /// The value of `PAYMENT-SIGNATURE` for a voucher over this total.
    pub fn header(&self, total: u128) -> String {
        self.encode(&BatchPayload::Voucher { channel_config: self.config.into(), voucher: self.voucher(total) })
    }

    /// The same with a deposit. `number` tells deposits of the channel apart.
    pub fn deposit_header(&self, total: u128, amount: u128, number: u8) -> String {
        let amount = Amount::from_units(amount);
        let blank = EvmSignature::new(vec![0; 65]).expect("65 bytes");
        let times = (Uint256::ZERO, Uint256::from(4_000_000_000_u64));
        let unsigned =
            Erc3009Deposit { valid_after: times.0, valid_before: times.1, salt: Hash256::from_bytes([number; 32]), signature: blank };
        let transfer = *unsigned.signed(self.config.payer, &self.channel, amount).statement();
        let signature = self.key.sign(transfer, &self.token).expect("in range").signature().clone();
        let authorization = DepositAuthorization::Erc3009(Erc3009Deposit { signature, ..unsigned });
        let deposit = Deposit { amount, authorization };
        self.encode(&BatchPayload::Deposit { channel_config: self.config.into(), voucher: self.voucher(total), deposit })
    }

    fn voucher(&self, total: u128) -> VoucherFields {
        let voucher = EscrowVoucher { channel: self.channel, cumulative: CumulativeAmount::from_units(total) };
        VoucherFields::of(self.key.sign(voucher, &batch_domain(CHAIN)).expect("in range").signed())
    }

    fn encode(&self, payload: &BatchPayload) -> String {
        let payment = PaymentPayload {
            x402_version: 2,
            resource: None,
            accepted: self.offer.clone(),
            payload: payload.to_object().expect("written"),
            extensions: Object::default(),
        };
        payment.to_header().expect("written")
    }

    /// Sends a payment; nothing when the answer's head did not come.
    pub async fn send(&self, url: &str, header: &str) -> Option<Answer> {
        match self.client.get(url).header("payment-signature", header).send().await {
            Ok(response) => Some(read(response).await),
            Err(_) => None,
        }
    }
}

impl Answer {
    /// What was charged on the channel so far, as a receipt or a correction says.
    pub fn charged_total(&self) -> Option<u128> {
        let settled = self.settled.as_ref().and_then(|settled| settled.extra.read::<BatchResponseExtra>("extra").ok());
        let offer = self.required.as_ref().and_then(|required| BatchOffer::from_requirements(required.accepts.first()?).ok());
        let state = settled.and_then(|extra| extra.channel_state).or_else(|| offer.and_then(|offer| offer.extra.channel_state));
        state?.charged_cumulative_amount.map(CumulativeAmount::units)
    }

    pub fn reason(&self) -> &str {
        self.required.as_ref().and_then(|required| required.error.as_deref()).unwrap_or_default()
    }
}

async fn read(response: Response) -> Answer {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    let required = header("payment-required").map(|text| PaymentRequired::from_header(&text).expect("offers"));
    let settled = header("payment-response").map(|text| SettleResponse::from_header(&text).expect("a receipt"));
    let status = response.status();
    Answer { status, body: response.text().await.ok(), required, settled }
}
