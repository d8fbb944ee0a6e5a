//! The books after whatever crashed: every statement holds, every payment has its receipt, and the tallies are the sums of the records.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_billing::{Account, AccountOf, Entry, Finding, StatedVoucher, Statement};
use millstream_engine::{Count, Span, Table, Whose};
use millstream_store::KeyRange;
use millstream_types::{Address, Hash256, Timestamp};
use millstream_voucher::evm::{EscrowDomain, EscrowVoucher, EvmSecretKey, EvmSignature, KeySignature, Signed};
use millstream_voucher::{PublicKey, Signature, SignedVoucher, VoucherBody};

use crate::bill_tests::{House, ledger};
use crate::books::Books;
use crate::core::store_table;

pub(crate) fn books(house: &House) -> Arc<Books> {
    let key = EvmSecretKey::from_bytes(&[0x77; 32]).expect("a key");
    Arc::new(Books::with_key(house.core.clone(), Arc::clone(&house.reader), ledger(), key))
}

pub(crate) fn recover(digest: &Hash256, signature: &[u8]) -> Option<Address> {
    KeySignature::from_bytes(signature.try_into().ok()?).ok()?.signer_of(digest).ok()
}

/// Judges the vouchers of tests: of these escrows, and of the ledger.
pub(crate) fn judge(domains: &[EscrowDomain], of: &AccountOf, voucher: &StatedVoucher) -> Result<(), String> {
    match (of, voucher) {
        (AccountOf::Ledger(channel), StatedVoucher::Ledger { key_x, lines_total, cumulative, bill_head, signature }) => {
            let body = VoucherBody { channel: *channel, lines_total: *lines_total, cumulative: *cumulative, bill_head: *bill_head };
            let signature = Signature::from_bytes(signature.as_slice().try_into().map_err(|_| "length".to_owned())?);
            let key = PublicKey::from_x(key_x.as_bytes()).map_err(|error| error.to_string())?;
            let signed = SignedVoucher::new(body, signature).map_err(|error| error.to_string())?;
            signed.verify(&key).map(drop).map_err(|error| error.to_string())
        }
        (AccountOf::Escrow(channel), StatedVoucher::Escrow { domain, contract, signer, cumulative, signature, .. }) => {
            let is_it = |known: &&EscrowDomain| known.scheme().domain_name() == domain && known.contract() == *contract;
            let domain = domains.iter().find(is_it).ok_or("an escrow from nowhere")?;
            let signature = EvmSignature::new(signature.clone()).map_err(|error| error.to_string())?;
            let signed = Signed::new(EscrowVoucher { channel: *channel, cumulative: *cumulative }, signature);
            signed.verify(domain, *signer).map(drop).map_err(|error| error.to_string())
        }
        _ => Err("another kind".to_owned()),
    }
}

pub(crate) fn findings(books: &Books, domains: &[EscrowDomain], statement: &Statement) -> Vec<Finding> {
    statement.findings(&books.key(), &recover, &|of: &AccountOf, voucher: &StatedVoucher| judge(domains, of, voucher))
}

/// The statement of all that a payer paid; it holds, and each of its rows has a receipt that holds.
pub(crate) async fn checked_statement(house: &House, domains: &[EscrowDomain], name: impl Fn(&Books), payer: Address) -> Statement {
    let books = books(house);
    name(&books);
    let all = (Timestamp::from_millis(0), Timestamp::from_millis(u64::MAX));
    let statement = books.statement(payer, all.0, all.1).await.expect("a statement");
    assert_eq!(findings(&books, domains, &statement), []);
    for row in statement.accounts.iter().flat_map(|account| &account.rows) {
        let receipt = match &row.entry {
            Entry::Charge(charge) => books.charge_receipt(charge.sequence).await.expect("a receipt"),
            Entry::Frame(frame) => books.line_receipt(frame.channel, frame.lines_after - 1).await.expect("a receipt"),
        };
        assert_eq!(receipt.verify(&books.key(), &recover), Ok(()));
        assert_eq!((&receipt.entry, receipt.signed.batch.number, receipt.index), (&row.entry, row.batch, row.index));
    }
    statement
}

/// What tallies sum up to, by kind of span and kind of row; each must be the same as the records.
pub(crate) fn tallied(house: &House) -> BTreeMap<(&'static str, &'static str), Count> {
    let mut sums: BTreeMap<_, Count> = BTreeMap::new();
    for (key, value) in house.reader.collect(store_table(Table::Tallies), &KeyRange::all()).expect("scans") {
        let (key, count) = Count::decode(&key, &value).expect("its own bytes");
        let whose = match key.whose {
            Whose::All => "all",
            Whose::Payer(_) | Whose::OtherPayers => "payers",
            Whose::Route(_) | Whose::OtherRoutes => "routes",
        };
        let sum = sums.entry((if matches!(key.span, Span::Hour(_)) { "hours" } else { "days" }, whose)).or_default();
        *sum = sum.checked_add(&count).expect("small");
    }
    sums
}

pub(crate) fn paid(accounts: &[Account]) -> u128 {
    accounts.iter().flat_map(|account| &account.rows).map(|row| row.amount().units()).sum()
}

/// Each value of a statement altered, one at a time: it is found, and what is found names the row, voucher, batch or sum.
pub(crate) fn assert_every_alteration_is_found(books: &Books, domains: &[EscrowDomain], statement: &Statement) {
    fn leaves(value: &serde_json::Value, at: String, all: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| leaves(value, format!("{at}/{name}"), all)),
            serde_json::Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| leaves(value, format!("{at}/{n}"), all)),
            _ => all.push(at),
        }
    }
    let json = serde_json::to_value(statement).expect("JSON");
    let mut all = Vec::new();
    leaves(&json, String::new(), &mut all);
    let mut altered = 0;
    for at in all {
        let mut json = json.clone();
        let value = json.pointer_mut(&at).expect("there");
        *value = match value.as_str() {
            Some(text) if text.starts_with("0x") && text.len() > 2 => {
                let (kept, last) = text.split_at(text.len() - 1);
                format!("{kept}{}", if last == "0" { '1' } else { '0' }).into()
            }
            Some(text) => match text.parse::<u128>() {
                Ok(number) => (number + 1).to_string().into(),
                Err(_) => "altered".into(),
            },
            None => (value.as_u64().expect("a number") + 1).into(),
        };
        // Some alterations are no statement at all any more.
        let Ok(read) = serde_json::from_value::<Statement>(json) else { continue };
        let found = findings(books, domains, &read);
        assert!(!found.is_empty(), "{at} can be altered");
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        let names = |what: &str| texts.iter().any(|text| text.contains(what));
        if at.contains("/rows/") {
            assert!(names(", row "), "{at}: {texts:?}");
        } else if at.contains("/voucher/") {
            assert!(names("the voucher"), "{at}: {texts:?}");
        } else if at.starts_with("/batches/") {
            assert!(names("batch "), "{at}: {texts:?}");
        }
        altered += 1;
    }
    assert!(altered > 50, "{altered}");

    // A row taken out, with the rest as it was: the one after it, or the sum, tells.
    for account in 0..statement.accounts.len() {
        for row in 0..statement.accounts[account].rows.len() {
            let mut without = statement.clone();
            without.accounts[account].rows.remove(row);
            let found = findings(books, domains, &without);
            let is_named = |finding: &Finding| matches!(finding, Finding::Gap { .. } | Finding::Closing { .. });
            assert!(found.iter().any(is_named), "row {row} of account {account}: {found:?}");
        }
    }
}
