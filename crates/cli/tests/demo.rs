//! The demo, small: every fact that it checks holds.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_check_of_the_demo_holds() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    let output = command.args(["--json", "demo", "--payments", "20000", "--channels", "5"]).output().expect("the demo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    for name in ["payments", "channels", "seconds", "payments_per_second", "ack_p50_ms", "ack_p99_ms", "settle_txs", "gas_per_channel"] {
        assert!(report[name].is_number(), "{name}: {report}");
    }
    let checks = report["checks"].as_object().expect("checks");
    assert!(checks.len() >= 8 && checks.values().all(|holds| holds == &Value::Bool(true)), "{report}");

    // The totals, once more from outside: nanos in the vouchers, whole base units paid out, the rest as credit.
    let nanos = |name: &str| report[name].as_str().expect("an amount").parse::<u128>().expect("decimal");
    let paid_out = u128::from(report["provider_balance_delta"].as_u64().expect("base units"));
    assert_eq!(nanos("voucher_total"), paid_out * 1_000 + nanos("provider_credit_left"));
    assert_eq!(paid_out, nanos("voucher_total") / 1_000);
    assert_eq!(report["settle_txs"], 1);
}
