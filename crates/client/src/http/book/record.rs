//! The records of the book: hand-written, versioned bytes; integers big-endian, a text is `length u32 ‖ bytes`.

use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Timestamp};
use millstream_voucher::evm::{ChannelConfig, EscrowDomain, EscrowScheme, SessionTerms};

use super::BookError;
use crate::http::asset::AssetId;

/// The version of all records.
const VERSION: u8 = 1;

/// The terms of a channel, by its kind of escrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscrowTerms {
    /// x402 `batch-settlement`.
    X402(ChannelConfig),
    /// MPP `evm/session`.
    Session(SessionTerms),
}

/// Whether a channel is paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelStatus {
    /// It is.
    Open,
    /// Not any more, and why: its server claimed what cannot be, or its deposit is being taken back on the chain.
    Suspended(String),
    /// Its deposit came back.
    Closed,
}

/// A deposit that was signed, and of which it is not known yet whether it is in the escrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingDeposit {
    pub(crate) amount: Amount,
    /// Unix seconds; afterwards nobody can use it.
    pub(crate) valid_before_secs: u64,
    /// What was signed, as it travels.
    pub(crate) json: String,
}

/// A channel. Totals are base units of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelRecord {
    pub(crate) chain: ChainId,
    pub(crate) contract: Address,
    pub(crate) terms: EscrowTerms,
    /// Scheme, host and port of the server; empty until it is seen, of a channel that was found on the chain. So are the next two.
    pub(crate) origin: String,
    /// The address that it was opened for, and by which method: where its server is asked for a refund.
    pub(crate) url: String,
    pub(crate) method: String,
    /// What the escrow is believed to hold, refunds taken off, claims not.
    pub(crate) funded: Amount,
    /// All deposits that were signed and may have been taken.
    pub(crate) deposited: Amount,
    /// What came back.
    pub(crate) refunded: Amount,
    /// The highest voucher that was signed.
    pub(crate) signed: CumulativeAmount,
    /// What the server charged, as far as it was told and can be.
    pub(crate) charged: CumulativeAmount,
    /// Ceilings of requests whose cost was never told.
    pub(crate) unresolved: Amount,
    /// Whether `signed` is all there ever was: not after this file was lost, until the server said where it stands.
    pub(crate) known: bool,
    pub(crate) status: ChannelStatus,
    pub(crate) pending: Option<PendingDeposit>,
}

/// How a request is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// x402 `batch-settlement`: a channel, one request at a time.
    Batch,
    /// MPP `evm/session`: a channel, many requests at once.
    Session,
    /// x402 `exact`: one transfer.
    Exact,
    /// MPP `evm/charge`: one transfer.
    Charge,
}

impl Scheme {
    /// All of them, in the order in which they are preferred unless said otherwise.
    pub const ALL: [Self; 4] = [Self::Batch, Self::Session, Self::Exact, Self::Charge];

    /// The name, as in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "x402-batch-settlement",
            Self::Session => "mpp-session",
            Self::Exact => "x402-exact",
            Self::Charge => "mpp-charge",
        }
    }

    /// From its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    const fn number(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::Session => 2,
            Self::Exact => 3,
            Self::Charge => 4,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.number() == number)
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not known yet.
    UnderWay,
    /// Answered, and this was charged.
    Charged(Amount),
    /// Answered, and its cost was not told.
    Untold,
    /// The server did not take the payment.
    NotTaken,
}

/// A payment that was signed for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestRecord {
    pub(crate) id: String,
    /// A hash over method, address and body: the same id is for the same request.
    pub(crate) fingerprint: Hash256,
    pub(crate) origin: String,
    pub(crate) asset: AssetId,
    pub(crate) payee: Address,
    pub(crate) scheme: Scheme,
    pub(crate) channel: Option<EscrowChannelId>,
    /// The most that it costs.
    pub(crate) price: Amount,
    /// What was signed on the channel before it.
    pub(crate) signed_before: CumulativeAmount,
    /// What its voucher is over; zero of a single payment.
    pub(crate) voucher: CumulativeAmount,
    /// The payment, as it travels: header and value.
    pub(crate) header: (String, String),
    pub(crate) made_at: Timestamp,
    pub(crate) outcome: Outcome,
}

impl EscrowTerms {
    /// The token.
    #[must_use]
    pub const fn token(&self) -> Address {
        match self {
            Self::X402(config) => config.token,
            Self::Session(terms) => terms.token,
        }
    }

    /// Who is paid.
    #[must_use]
    pub const fn payee(&self) -> Address {
        match self {
            Self::X402(config) => config.receiver,
            Self::Session(terms) => terms.payee,
        }
    }

    /// How requests are paid.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::X402(_) => Scheme::Batch,
            Self::Session(_) => Scheme::Session,
        }
    }
}

impl ChannelRecord {
    /// A channel that nothing is in yet.
    pub(crate) fn new(chain: ChainId, contract: Address, terms: EscrowTerms, origin: &str, url: &str, method: &str) -> Self {
        Self {
            chain,
            contract,
            terms,
            origin: origin.to_owned(),
            url: url.to_owned(),
            method: method.to_owned(),
            funded: Amount::ZERO,
            deposited: Amount::ZERO,
            refunded: Amount::ZERO,
            signed: CumulativeAmount::ZERO,
            charged: CumulativeAmount::ZERO,
            unresolved: Amount::ZERO,
            known: false,
            status: ChannelStatus::Open,
            pending: None,
        }
    }

    pub(crate) const fn asset(&self) -> AssetId {
        AssetId { chain: self.chain, token: self.terms.token() }
    }

    pub(crate) fn domain(&self) -> EscrowDomain {
        let scheme = match self.terms {
            EscrowTerms::X402(_) => EscrowScheme::X402Batch,
            EscrowTerms::Session(_) => EscrowScheme::EvmSession,
        };
        EscrowDomain::new(scheme, self.chain, self.contract)
    }

    /// Deposits that neither came back nor were signed away.
    pub(crate) fn free_deposit(&self) -> Amount {
        let gone = self.refunded.checked_add(self.signed.as_amount()).unwrap_or(self.deposited);
        self.deposited.checked_sub(gone).unwrap_or(Amount::ZERO)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(vec![VERSION]);
        out.u64(self.chain.get());
        out.bytes(self.contract.as_bytes());
        match self.terms {
            EscrowTerms::X402(config) => {
                out.u8(1);
                for address in [config.payer, config.payer_authorizer, config.receiver, config.receiver_authorizer, config.token] {
                    out.bytes(address.as_bytes());
                }
                out.u64(config.withdraw_delay_secs);
                out.bytes(config.salt.as_bytes());
            }
            EscrowTerms::Session(terms) => {
                out.u8(2);
                for address in [terms.payer, terms.payee, terms.token, terms.authorized_signer] {
                    out.bytes(address.as_bytes());
                }
                out.bytes(terms.salt.as_bytes());
            }
        }
        [&self.origin, &self.url, &self.method].into_iter().for_each(|text| out.text(text));
        for amount in [self.funded, self.deposited, self.refunded, self.signed.as_amount(), self.charged.as_amount(), self.unresolved] {
            out.amount(amount);
        }
        out.u8(u8::from(self.known));
        match &self.status {
            ChannelStatus::Open => out.u8(1),
            ChannelStatus::Suspended(reason) => {
                out.u8(2);
                out.text(reason);
            }
            ChannelStatus::Closed => out.u8(3),
        }
        match &self.pending {
            None => out.u8(0),
            Some(pending) => {
                out.u8(1);
                out.amount(pending.amount);
                out.u64(pending.valid_before_secs);
                out.text(&pending.json);
            }
        }
        out.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, BookError> {
        let mut from = Reader::new(bytes)?;
        let chain = ChainId::new(from.u64()?);
        let contract = from.address()?;
        let terms = match from.u8()? {
            1 => EscrowTerms::X402(ChannelConfig {
                payer: from.address()?,
                payer_authorizer: from.address()?,
                receiver: from.address()?,
                receiver_authorizer: from.address()?,
                token: from.address()?,
                withdraw_delay_secs: from.u64()?,
                salt: Hash256::from_bytes(from.array()?),
            }),
            2 => EscrowTerms::Session(SessionTerms {
                payer: from.address()?,
                payee: from.address()?,
                token: from.address()?,
                authorized_signer: from.address()?,
                salt: Hash256::from_bytes(from.array()?),
            }),
            _ => return Err(BookError::Damaged("a channel's terms")),
        };
        let (origin, url, method) = (from.text()?, from.text()?, from.text()?);
        let (funded, deposited, refunded) = (from.amount()?, from.amount()?, from.amount()?);
        let (signed, charged) = (from.cumulative()?, from.cumulative()?);
        let unresolved = from.amount()?;
        let known = from.u8()? == 1;
        let status = match from.u8()? {
            1 => ChannelStatus::Open,
            2 => ChannelStatus::Suspended(from.text()?),
            3 => ChannelStatus::Closed,
            _ => return Err(BookError::Damaged("a channel's status")),
        };
        let pending = match from.u8()? {
            0 => None,
            1 => Some(PendingDeposit { amount: from.amount()?, valid_before_secs: from.u64()?, json: from.text()? }),
            _ => return Err(BookError::Damaged("a channel's deposit")),
        };
        from.end()?;
        Ok(Self {
            chain,
            contract,
            terms,
            origin,
            url,
            method,
            funded,
            deposited,
            refunded,
            signed,
            charged,
            unresolved,
            known,
            status,
            pending,
        })
    }
}

impl RequestRecord {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(vec![VERSION]);
        out.text(&self.id);
        out.bytes(self.fingerprint.as_bytes());
        out.text(&self.origin);
        out.u64(self.asset.chain.get());
        out.bytes(self.asset.token.as_bytes());
        out.bytes(self.payee.as_bytes());
        out.u8(self.scheme.number());
        match self.channel {
            None => out.u8(0),
            Some(channel) => {
                out.u8(1);
                out.bytes(channel.as_bytes());
            }
        }
        out.amount(self.price);
        out.amount(self.signed_before.as_amount());
        out.amount(self.voucher.as_amount());
        out.text(&self.header.0);
        out.text(&self.header.1);
        out.u64(self.made_at.as_millis());
        let (kind, amount) = match self.outcome {
            Outcome::UnderWay => (1, Amount::ZERO),
            Outcome::Charged(amount) => (2, amount),
            Outcome::Untold => (3, Amount::ZERO),
            Outcome::NotTaken => (4, Amount::ZERO),
        };
        out.u8(kind);
        out.amount(amount);
        out.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, BookError> {
        let mut from = Reader::new(bytes)?;
        let id = from.text()?;
        let fingerprint = Hash256::from_bytes(from.array()?);
        let origin = from.text()?;
        let asset = AssetId { chain: ChainId::new(from.u64()?), token: from.address()? };
        let payee = from.address()?;
        let scheme = Scheme::from_number(from.u8()?).ok_or(BookError::Damaged("a request's scheme"))?;
        let channel = match from.u8()? {
            0 => None,
            _ => Some(EscrowChannelId::from_bytes(from.array()?)),
        };
        let (price, signed_before, voucher) = (from.amount()?, from.cumulative()?, from.cumulative()?);
        let header = (from.text()?, from.text()?);
        let made_at = Timestamp::from_millis(from.u64()?);
        let outcome = match (from.u8()?, from.amount()?) {
            (1, _) => Outcome::UnderWay,
            (2, amount) => Outcome::Charged(amount),
            (3, _) => Outcome::Untold,
            (4, _) => Outcome::NotTaken,
            _ => return Err(BookError::Damaged("a request's outcome")),
        };
        from.end()?;
        Ok(Self { id, fingerprint, origin, asset, payee, scheme, channel, price, signed_before, voucher, header, made_at, outcome })
    }
}

/// The key of what was spent, in books of layout 1: `kind ‖ chain ‖ token [‖ day u32 [‖ host]]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SpentKey {
    Total(AssetId),
    Day(AssetId, u32),
    HostDay(AssetId, u32, String),
}

impl SpentKey {
    #[cfg(test)]
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (kind, asset, day, host) = match self {
            Self::Total(asset) => (1, asset, None, None),
            Self::Day(asset, day) => (2, asset, Some(day), None),
            Self::HostDay(asset, day, host) => (3, asset, Some(day), Some(host)),
        };
        let mut out = Writer(vec![kind]);
        out.u64(asset.chain.get());
        out.bytes(asset.token.as_bytes());
        if let Some(day) = day {
            out.bytes(&day.to_be_bytes());
        }
        if let Some(host) = host {
            out.bytes(host.as_bytes());
        }
        out.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, BookError> {
        let (kind, rest) = bytes.split_first().ok_or(BookError::Damaged("a sum"))?;
        let mut from = Reader(rest);
        let asset = AssetId { chain: ChainId::new(from.u64()?), token: from.address()? };
        match kind {
            1 => from.end().map(|()| Self::Total(asset)),
            2 | 3 => {
                let day = u32::from_be_bytes(from.array()?);
                if *kind == 2 {
                    return from.end().map(|()| Self::Day(asset, day));
                }
                let host = String::from_utf8(from.0.to_vec()).map_err(|_| BookError::Damaged("a sum's host"))?;
                Ok(Self::HostDay(asset, day, host))
            }
            _ => Err(BookError::Damaged("a sum's kind")),
        }
    }
}

/// Who a server was paid for, and in what: `chain ‖ token ‖ payee ‖ origin`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PayeeKey {
    pub(crate) origin: String,
    pub(crate) asset: AssetId,
    pub(crate) payee: Address,
}

impl PayeeKey {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.u64(self.asset.chain.get());
        out.bytes(self.asset.token.as_bytes());
        out.bytes(self.payee.as_bytes());
        out.bytes(self.origin.as_bytes());
        out.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, BookError> {
        let mut from = Reader(bytes);
        let asset = AssetId { chain: ChainId::new(from.u64()?), token: from.address()? };
        let payee = from.address()?;
        let origin = String::from_utf8(from.0.to_vec()).map_err(|_| BookError::Damaged("a payee's origin"))?;
        Ok(Self { origin, asset, payee })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    fn amount(&mut self, value: Amount) {
        self.bytes(&value.units().to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        // Longer texts are refused long before: a header has at most 32 KiB, an address what HTTP takes.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.bytes(&length.to_be_bytes());
        self.bytes(text.as_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, BookError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rest)),
            Some(_) | None => Err(BookError::Damaged("a record's version")),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], BookError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BookError::Damaged("a record's length"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BookError> {
        self.take(N)?.try_into().map_err(|_| BookError::Damaged("a record's length"))
    }

    fn u8(&mut self) -> Result<u8, BookError> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    fn u64(&mut self) -> Result<u64, BookError> {
        self.array().map(u64::from_be_bytes)
    }

    fn amount(&mut self) -> Result<Amount, BookError> {
        self.array().map(|bytes| Amount::from_units(u128::from_be_bytes(bytes)))
    }

    fn cumulative(&mut self) -> Result<CumulativeAmount, BookError> {
        self.amount().map(|amount| CumulativeAmount::from_units(amount.units()))
    }

    fn address(&mut self) -> Result<Address, BookError> {
        self.array().map(Address::from_bytes)
    }

    fn text(&mut self) -> Result<String, BookError> {
        let length = usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| BookError::Damaged("a text's length"))?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| BookError::Damaged("a text"))
    }

    fn end(&self) -> Result<(), BookError> {
        if self.0.is_empty() { Ok(()) } else { Err(BookError::Damaged("a record's end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> ChannelRecord {
        let address = |byte| Address::from_bytes([byte; 20]);
        let config = ChannelConfig {
            payer: address(1),
            payer_authorizer: address(2),
            receiver: address(3),
            receiver_authorizer: address(4),
            token: address(5),
            withdraw_delay_secs: 900,
            salt: Hash256::from_bytes([6; 32]),
        };
        let mut record = ChannelRecord::new(ChainId::new(1), address(7), EscrowTerms::X402(config), "https://a", "https://a/b", "POST");
        record.signed = CumulativeAmount::from_units(u128::MAX);
        record.status = ChannelStatus::Suspended("it lies".to_owned());
        record.pending = Some(PendingDeposit { amount: Amount::from_units(9), valid_before_secs: 10, json: "{}".to_owned() });
        record
    }

    #[test]
    fn records_are_read_as_they_were_written_and_no_part_of_one_is() {
        let session = SessionTerms {
            payer: Address::ZERO,
            payee: Address::ZERO,
            token: Address::ZERO,
            salt: Hash256::from_bytes([1; 32]),
            authorized_signer: Address::ZERO,
        };
        let closed = ChannelRecord { terms: EscrowTerms::Session(session), status: ChannelStatus::Closed, pending: None, ..channel() };
        for record in [channel(), closed] {
            let bytes = record.to_bytes();
            assert_eq!(ChannelRecord::from_bytes(&bytes).expect("read"), record);
            (0..bytes.len()).for_each(|length| assert!(ChannelRecord::from_bytes(&bytes[..length]).is_err(), "{length}"));
            assert!(ChannelRecord::from_bytes(&[bytes, vec![0]].concat()).is_err());
        }
        for outcome in [Outcome::UnderWay, Outcome::Charged(Amount::from_units(4)), Outcome::Untold, Outcome::NotTaken] {
            let request = RequestRecord {
                id: "id".to_owned(),
                fingerprint: Hash256::from_bytes([3; 32]),
                origin: "https://a".to_owned(),
                asset: channel().asset(),
                payee: Address::ZERO,
                scheme: Scheme::Session,
                channel: Some(EscrowChannelId::from_bytes([9; 32])),
                price: Amount::from_units(5),
                signed_before: CumulativeAmount::from_units(6),
                voucher: CumulativeAmount::from_units(7),
                header: ("Authorization".to_owned(), "Payment e30".to_owned()),
                made_at: Timestamp::from_millis(8),
                outcome,
            };
            let bytes = request.to_bytes();
            assert_eq!(RequestRecord::from_bytes(&bytes).expect("read"), request);
            (0..bytes.len()).for_each(|length| assert!(RequestRecord::from_bytes(&bytes[..length]).is_err(), "{length}"));
        }
        let asset = channel().asset();
        for key in [SpentKey::Total(asset), SpentKey::Day(asset, 7), SpentKey::HostDay(asset, 7, "a:1".to_owned())] {
            assert_eq!(SpentKey::from_bytes(&key.to_bytes()).expect("read"), key);
        }
        let payee = PayeeKey { origin: "https://a".to_owned(), asset, payee: Address::ZERO };
        assert_eq!(PayeeKey::from_bytes(&payee.to_bytes()).expect("read"), payee);
    }
}
