//! A statement as CSV and as a page to print. Both say what the JSON says; the JSON has the proofs beside it.

use std::fmt::Write;

use millstream_billing::{Account, AccountOf, ChargeCause, ChargeEntry, Entry, Row, Statement};

use super::moment::rfc3339;
use super::receipt::units;

/// The columns of the CSV.
const COLUMNS: &str =
    "account,asset,number,at,batch,request_or_lines,cause,route,card,card_version,units,amount,total_after,evidence_sha256";

/// What a row says, as text.
struct Cells {
    number: String,
    at: String,
    what: String,
    cause: &'static str,
    route: String,
    card: String,
    card_version: String,
    units: String,
    evidence: String,
}

impl Cells {
    fn of(statement: &Statement, row: &Row) -> Self {
        let batch = statement.batches.binary_search_by_key(&row.batch, |signed| signed.batch.number);
        let at = batch.ok().and_then(|at| statement.batches.get(at)).map_or(String::new(), |signed| rfc3339(signed.batch.at_millis));
        match &row.entry {
            Entry::Frame(frame) => Self {
                number: frame.lines_before.to_string(),
                at,
                what: format!("lines {} to {}", frame.lines_before, frame.lines_after.saturating_sub(1)),
                cause: "",
                route: String::new(),
                card: String::new(),
                card_version: String::new(),
                units: format!("{} lines", frame.lines_after.saturating_sub(frame.lines_before)),
                evidence: frame.frame_root.to_string(),
            },
            Entry::Charge(charge) => Self::of_charge(charge, at),
        }
    }

    fn of_charge(charge: &ChargeEntry, at: String) -> Self {
        let read = charge.read_evidence();
        let used = read.as_ref().and_then(|evidence| evidence.delivery).map(|delivery| units(&delivery.units));
        Self {
            number: charge.sequence.to_string(),
            at,
            what: charge.request.to_string(),
            cause: match charge.cause {
                ChargeCause::Captured => "captured",
                ChargeCause::Voided => "voided",
                ChargeCause::Recovered => "recovered",
                ChargeCause::Expired => "expired",
                ChargeCause::Reversed => "reversed",
            },
            route: read.as_ref().map(|evidence| evidence.route.clone()).unwrap_or_default(),
            card: read.map(|evidence| evidence.card).unwrap_or_default(),
            card_version: charge.card_version.to_string(),
            units: used.unwrap_or_default(),
            evidence: charge.evidence_digest().to_string(),
        }
    }
}

/// What an account's total grew by, or fell by reversals of what was charged before.
pub(super) fn paid(account: &Account) -> String {
    match account.closing.delta_since(account.opening) {
        Ok(paid) => paid.to_string(),
        Err(_) => account.opening.delta_since(account.closing).map_or_else(|_| String::new(), |back| format!("-{back}")),
    }
}

fn account_id(of: AccountOf) -> String {
    match of {
        AccountOf::Ledger(channel) => channel.to_string(),
        AccountOf::Escrow(channel) => channel.to_string(),
        AccountOf::Payments(_) => "single payments".to_owned(),
    }
}

/// The statement's rows as CSV (RFC 4180), one line each after the header, in the order of the JSON.
pub(super) fn csv(statement: &Statement) -> String {
    let mut text = format!("{COLUMNS}\r\n");
    for account in &statement.accounts {
        for row in &account.rows {
            text.push_str(&csv_line(statement, account, row));
            text.push_str("\r\n");
        }
    }
    text
}

fn csv_line(statement: &Statement, account: &Account, row: &Row) -> String {
    let Cells { number, at, what, cause, route, card, card_version, units, evidence } = Cells::of(statement, row);
    let (of, asset, batch) = (account_id(account.of), account.asset.to_string(), row.batch.to_string());
    let texts = [of, asset, number, at, batch, what, cause.to_owned(), route, card, card_version, units].map(|text| csv_cell(&text));
    format!("{},{},{},{evidence}", texts.join(","), signed(row), row.total_after())
}

/// What a row adds: less than nothing when it takes an earlier one back.
fn signed(row: &Row) -> String {
    if row.is_reversal() { format!("-{}", row.amount()) } else { row.amount().to_string() }
}

/// A cell that a spreadsheet takes as text: routes and names of cards come from configurations, and must not be formulas.
fn csv_cell(text: &str) -> String {
    let guarded = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if guarded.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

/// The lines of a CSV that are not those of the statement: the number of the line, from 1 with the header, what it should be and what it is.
pub(super) fn csv_findings(statement: &Statement, text: &str) -> Vec<String> {
    let expected = csv(statement);
    let (mut expected, mut actual) = (expected.lines(), text.lines());
    let mut findings = Vec::new();
    for number in 1.. {
        match (expected.next(), actual.next()) {
            (None, None) => break,
            (Some(expected), Some(actual)) if expected == actual => {}
            (Some(expected), Some(actual)) => {
                findings.push(format!("line {number} of the CSV is {actual:?}, and the statement has {expected:?}"))
            }
            (Some(expected), None) => findings.push(format!("line {number} of the CSV is missing: {expected:?}")),
            (None, Some(actual)) => findings.push(format!("line {number} of the CSV is in no row of the statement: {actual:?}")),
        }
    }
    findings
}

/// The statement as one page of HTML without anything from outside, to be printed or kept.
pub(super) fn html(statement: &Statement) -> String {
    let mut page = String::from(HEAD);
    let period = format!("{} – {}", rfc3339(statement.from_millis), rfc3339(statement.to_millis));
    // Writing to a string does not fail.
    let _ = write!(
        page,
        "<h1>Statement</h1><dl><dt>Payer</dt><dd>{}</dd><dt>Period, UTC</dt><dd>{period}</dd><dt>Signed by</dt><dd>{}</dd>\
         <dt>Journal</dt><dd>chain {}, ledger {}</dd></dl>",
        statement.payer, statement.key, statement.chain_id, statement.ledger
    );
    if statement.accounts.is_empty() {
        page.push_str("<p>Nothing was paid in this period.</p>");
    }
    for account in &statement.accounts {
        account_html(statement, account, &mut page);
    }
    page.push_str(
        "<footer>Amounts of the ledger are nanos, 10<sup>-9</sup> of a token; others are base units of the token. Check the JSON of this statement with \
         <code>millstream statement verify</code>.</footer></main></html>\n",
    );
    page
}

fn account_html(statement: &Statement, account: &Account, page: &mut String) {
    let (unit, asset) = match account.of {
        AccountOf::Ledger(_) => ("nanos", "ledger"),
        AccountOf::Escrow(_) | AccountOf::Payments(_) => ("base units", "token"),
    };
    let paid = paid(account);
    let _ = write!(
        page,
        "<section><h2>{}</h2><p>{asset} {}, in {unit}</p><table><thead><tr><th>Number</th><th>Time, UTC</th><th>What</th><th>Route</th><th>Units</th>\
         <th>Prices</th><th class=n>Amount</th><th class=n>Total</th></tr></thead><tbody><tr><td colspan=7>Before the period</td><td class=n>{}</td></tr>",
        escape(&account.of.to_string()),
        account.asset,
        account.opening
    );
    for row in &account.rows {
        let cells = Cells::of(statement, row);
        let prices = if cells.card.is_empty() { String::new() } else { format!("{} {}", cells.card, cells.card_version) };
        let cause = if matches!(cells.cause, "" | "captured") { String::new() } else { format!(" ({})", cells.cause) };
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=id>{}{cause}</td><td>{}</td><td>{}</td><td>{}</td><td class=n>{}</td><td class=n>{}</td></tr>",
            cells.number,
            cells.at,
            escape(&cells.what),
            escape(&cells.route),
            escape(&cells.units),
            escape(&prices),
            signed(row),
            row.total_after()
        );
    }
    let _ = write!(
        page,
        "</tbody><tfoot><tr><td colspan=6>Paid in the period, and in all</td><td class=n>{paid}</td><td class=n>{}</td></tr></tfoot></table></section>",
        account.closing
    );
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, letter| {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
        escaped
    })
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>Statement</title>\
<style>body{font:13px/1.45 system-ui,sans-serif;color:#111;background:#fff;margin:0}main{max-width:70rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1rem;overflow-wrap:anywhere}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{color:#555}\
dd{margin:0;overflow-wrap:anywhere}table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{text-align:left;padding:.25rem .5rem;\
border-bottom:1px solid #ddd;vertical-align:top}th{border-bottom:2px solid #111}tfoot td{border-top:2px solid #111;font-weight:600}.n{text-align:right;\
white-space:nowrap}.id{overflow-wrap:anywhere;max-width:16rem;font-size:.8em}footer{margin-top:2rem;color:#555}thead{display:table-header-group}\
tr{break-inside:avoid}@media print{main{margin:0;max-width:none}}</style><main>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_text_for_spreadsheets_and_pages() {
        let check = |text: &str, cell: &str| assert_eq!(csv_cell(text), cell);
        check("/v1/*", "/v1/*");
        check("a,b", "\"a,b\"");
        check("say \"x\"", "\"say \"\"x\"\"\"");
        check("=HYPERLINK(1)", "'=HYPERLINK(1)");
        check("-1,2", "\"'-1,2\"");
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
