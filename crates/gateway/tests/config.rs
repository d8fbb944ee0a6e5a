//! Configurations that are refused, each for its reason.

mod support;

use millstream_gateway::{Gate, GatewayConfig};
use support::memory::MemoryPort;
use support::{payment, tempfile};

fn refused(text: &str) -> Option<String> {
    let config = match GatewayConfig::parse(text) {
        Ok(config) => config,
        Err(error) => return Some(format!("{error}: {}", std::error::Error::source(&error).expect("a source"))),
    };
    Gate::new(&config, MemoryPort::new()).err().map(|error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

#[test]
fn what_cannot_work_is_refused_at_start() {
    let good = payment(&tempfile());
    let check = |text: &str, expected: Option<&str>| {
        let found = refused(text);
        let holds = match (&found, expected) {
            (Some(found), Some(expected)) => found.contains(expected),
            (None, None) => true,
            _ => false,
        };
        assert!(holds, "{found:?}, expected {expected:?}");
    };
    let route = |line: &str| format!("{good}\n[[route]]\npath = \"/a\"\n{line}");
    check(&route("price = \"1 USDC / call\""), None);
    check(&route("free = true"), None);
    check(&good, Some("there is none"));
    check(&route("prise = \"1 USDC / call\""), Some("prise"));
    check(&route(""), Some("exactly one of `price`, `card` and `free = true`"));
    check(&route("free = true\nprice = \"1 USDC / call\""), Some("exactly one of `price`, `card` and `free = true`"));
    check(&route("card = \"chat\"\nprice = \"1 USDC / call\""), Some("exactly one of `price`, `card` and `free = true`"));
    check(&route("card = \"chat\""), Some("nothing says which directory cards are in"));
    check(&route("card = \"a b\""), Some("not a tariff's name"));
    check(&route("card = \"chat\"\nminimum = \"1 base\""), Some("`minimum` and `tariff` are the card's"));
    check(&route("price = \"1 DAI / call\""), Some("this route is paid in USDC"));
    check(&route("price = \"1 USDC / 3 call\""), Some("cannot be represented exactly"));
    check(&route("price = \"1 USDC / call\"\nminimum = \"0.0000001 USDC\""), Some("not a whole number of base units"));
    check(&route("price = \"1 USDC / call\"\ntariff = \"a b\""), Some("not a tariff's name"));
    check(&route("free = true\nmethods = [\"CONNECT\"]"), Some("not a method that is proxied"));
    check(&route("free = true\nupstream = \"ftp://x\""), Some("http:// or https://"));
    check(&route("free = true\nupstream = \"http://user:pass@x\""), Some("credentials"));
    check(&route("free = true\nupstream = \"http://x/?a=b\""), Some("query"));
    check(&route("free = true\ntimeouts = { idle_secs = 0 }"), Some("1 to 86400"));
    check(&route("free = true\n[[route]]\npath = \"/a\"\nfree = true"), Some("never reached"));
    check(&route("free = true\n[[route]]\npath = \"/a/../b\"\nfree = true"), Some("`..`"));
    check(&route("price = \"340282366920938463463374607431768 USDC / output_token\""), Some("does not fit"));
    check(&route("free = true\n[route.headers.credential]\nenv = \"MILLSTREAM_NO_SUCH_VARIABLE\""), Some("is not set"));
    let free = "[[route]]\npath = \"/a\"\nfree = true";
    for (from, to, expected) in [
        ("eip155:31337", "solana:x", "only EVM chains"),
        ("eip155:31337", "base", "CAIP-2"),
        ("decimals = 6", "decimals = 28", "28 decimals"),
        ("withdraw_delay_secs = 900", "withdraw_delay_secs = 899", "900 to 2592000"),
        ("pay_to = \"0x4444", "pay_to = \"0x44", "hexadecimal"),
        ("pay_to = \"0x4444444444444444444444444444444444444444", "pay_to = \"0x0000000000000000000000000000000000000000", "zero address"),
        ("voucher_wait_secs = 20", "voucher_wait_secs = 0", "1 to 3600"),
    ] {
        check(&format!("{}\n{free}", good.replace(from, to)), Some(expected));
    }
    for (section, expected) in [
        ("[payment.exact]", "takes no single payments"),
        ("[payment.exact]\ntimeout_secs = 29", "30 to 3000"),
        ("[payment.exact]\nmethods = []", "names none"),
        ("[payment.exact]\nmethods = [\"permit2\", \"permit2\"]", "one twice"),
        ("[payment.exact]\nmethods = [\"permit3\"]", "permit3"),
    ] {
        check(&format!("{good}\n{section}\n{free}"), Some(expected));
    }
    let sessionless = good.replace("escrow = \"0x5555555555555555555555555555555555555555\"", "");
    check(&format!("{sessionless}\n{free}"), Some("no escrow for sessions"));
    let path = tempfile();
    std::fs::write(&path, "5a").expect("writable");
    check(&format!("{}\n{free}", payment(&path)), Some("32 bytes"));
    check(&format!("{}\n{free}", payment("/no/such/file")), Some("cannot read"));
    {
        use std::os::unix::fs::PermissionsExt;
        let path = tempfile();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("ours");
        check(&format!("{}\n{free}", payment(&path)), Some("mode to 600"));
    }
    let nobody = good.split("[payment.x402]").next().expect("before").to_owned();
    check(&format!("{nobody}\n[[route]]\npath = \"/a\"\nprice = \"1 USDC / call\""), Some("nobody could pay"));
}
