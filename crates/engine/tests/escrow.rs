//! Escrow channels and single payments, line by line. Numbers in brackets are requirements of `docs/spec/reservations.md`.

mod world;

use millstream_engine::escrow::{EscrowAnswer, EscrowFact, EscrowInput, EscrowRejection, EscrowTerms, Reserve};
use millstream_engine::{Fault, Input};
use millstream_types::{Address, Amount, CumulativeAmount};
use millstream_voucher::evm::{EscrowVoucher, EvmSecretKey};

use world::{EXACT, World, channel, domain, escrow, other_domain, request, terms, voucher};

/// Each line is a step, `=>` and its answer in short. Totals are `settled charged+reserved accepted deposit status`.
fn check_with(optimistic: u128, script: &str) {
    let mut world = World::new(optimistic);
    for (number, line) in script.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let (step, expected) = line.split_once("=>").map_or((line, "done"), |(step, expected)| (step.trim(), expected.trim()));
        assert_eq!(world.line(step), expected, "step {number}: {line}");
        world.check();
    }
    // Everything is in the records.
    let before: Vec<_> = ["x", "x2", "m", "m2"].iter().map(|name| world.totals(name)).collect();
    world.restart();
    for (name, before) in ["x", "x2", "m", "m2"].iter().zip(before) {
        assert!(world.totals(name) == before || before.ends_with("closed"), "{name}: {before}");
    }
    world.check();
}

fn check(script: &str) {
    check_with(0, script);
}

#[test]
fn under_the_exact_rule_each_voucher_is_what_was_charged_and_what_may_be() {
    check(
        "open x 5000
         reserve x r1 1000            => !step 1000
         reserve x r1 1000 v999       => !step 1000
         reserve x r1 1000 v1000      => reserved 1000
         totals x                     => 0 0+1000 1000 5000 open
         reserve x r2 1000 v1000      => !Busy
         capture r1 1001              => !BeyondReserved
         capture r1 700               => charged 700 =700
         totals x                     => 0 700+0 1000 5000 open
         reserve x r2 1000 v2000      => !step 1700
         reserve x r2 1000 v1700      => reserved 1000
         void r2                      => voided
         totals x                     => 0 700+0 1700 5000 open
         reserve x r3 200 v900        => reserved 200
         totals x                     => 0 700+200 1700 5000 open
         capture r3 0                 => charged 0 =700
         voucher x 700                => accepted 1700
         voucher x 701                => !step 700
         claimable x                  => x:700/1700
         reserve x r4 4301 v5001      => !deposit 5000
         deposit x 6000
         reserve x r4 4301 v5001      => reserved 4301",
    );
}

#[test]
fn under_the_monotone_rule_a_payer_signs_ahead_and_has_many_requests_under_way() {
    check(
        "open m 1000
         reserve m r1 50              => !insufficient 50
         reserve m r1 50 v9           => !DeltaTooSmall
         reserve m r1 50 v40          => !insufficient 50
         totals m                     => 0 0+0 0 1000 open
         reserve m r1 50 v100         => reserved 50
         reserve m r2 50              => reserved 50
         reserve m r3 1               => !insufficient 101
         voucher m 100                => accepted 100
         voucher m 50                 => accepted 100
         voucher m 109                => !DeltaTooSmall
         voucher m 110                => accepted 110
         reserve m r3 1 v60           => reserved 1
         voucher m 1001               => !deposit 1000
         mark r1 20                   => marked 20
         mark r1 10                   => marked 20
         mark r1 51                   => !BeyondReserved
         capture r1 19                => !BelowDelivered
         extend r1 60 v200            => reserved 60
         extend r1 55                 => reserved 60
         extend r1 200                => !insufficient 251
         totals m                     => 0 0+111 200 1000 open
         capture r1 60                => charged 60 =60
         void r2                      => voided
         capture r3 1                 => charged 1 =61
         totals m                     => 0 61+0 200 1000 open",
    );
}

#[test]
fn an_exact_request_can_be_extended_by_an_exact_voucher() {
    check(
        "open x 5000
         reserve x r1 100 v100        => reserved 100
         mark r1 80                   => marked 80
         extend r1 300 v400           => !step 300
         extend r1 300 v300           => reserved 300
         capture r1 250               => charged 250 =250
         reserve x r2 100 v350        => reserved 100",
    );
}

#[test]
fn what_is_known_of_a_request_is_its_answer() {
    check(
        "open x 5000
         open m 5000
         reserve x r1 1000 v1000      => reserved 1000
         reserve x r1 1000 v1000      => under way 1000 0
         reserve x r1 1000 v1000 f2   => !Conflict
         reserve m r1 1000 v1000      => !Conflict
         capture r1 700               => charged 700 =700
         reserve x r1 1000 v1000      => charged 700 =700 again
         capture r1 900               => charged 700 =700 again
         void r1                      => charged 700 =700 again
         crash
         reserve x r1 1000 v1000      => charged 700 =700 again
         reserve x r1 1000 v1000 f2   => !Conflict
         reserve x r2 1000 v1700      => reserved 1000
         void r2                      => voided
         void r2                      => !UnknownRequest
         reserve x r2 500 v1200 f3    => reserved 500
         void r2                      => voided
         wait 1500
         reserve x r3 100 v800        => reserved 100
         capture r3 100               => charged 100 =800
         reserve x r1 1000 v1000      => charged 700 =700 again
         wait 1000
         reserve x r1 1000 v1000      => !step 1800
         reserve x r3 100 v800        => charged 100 =800 again
         wait 3000
         reserve x r3 100 v800        => !step 900
         totals x                     => 0 800+0 1700 5000 open",
    );
}

#[test]
fn a_crash_captures_what_was_marked_and_releases_the_rest() {
    check(
        "open x 5000
         open m 5000
         reserve x r1 1000 v1000      => reserved 1000
         reserve m r2 100 v300        => reserved 100
         reserve m r3 100             => reserved 100
         mark r2 40                   => marked 40
         crash
         totals x                     => 0 0+0 1000 5000 open
         totals m                     => 0 40+0 300 5000 open
         capture r1 1000              => !UnknownRequest
         capture r2 100               => charged 40 =40 again
         reserve m r2 100             => charged 40 =40 again
         reserve x r1 1000 v1000      => reserved 1000
         crash
         crash
         totals x                     => 0 0+0 1000 5000 open",
    );
}

#[test]
fn a_reservation_that_nobody_resolves_expires() {
    check(
        "open x 5000
         reserve x r1 1000 v1000      => reserved 1000
         wait 399
         reserve x r2 1000 v1000      => !Busy
         wait 1
         reserve x r2 1000 v1000      => reserved 1000
         mark r2 10                   => marked 10
         wait 400
         capture r2 1000              => charged 10 =10 again
         totals x                     => 0 10+0 1000 5000 open",
    );
}

#[test]
fn a_withdrawal_that_could_overtake_a_claim_is_not_paid_into() {
    // A request takes up to 400 and a claim up to 100.
    check(
        "open x 5000
         reserve x r1 1000 v1000      => reserved 1000
         capture r1 1000              => charged 1000 =1000
         exit x 3500 @1000
         reserve x r2 1000 v2000      => reserved 1000
         void r2                      => voided
         wait 498
         reserve x r2 1000 v2000      => reserved 1000
         void r2                      => voided
         wait 1
         reserve x r2 1000 v2000      => !withdrawing 1500
         reserve x r2 501 v1501       => !withdrawing 1500
         reserve x r2 500 v1500       => reserved 500
         capture r2 500               => charged 500 =1500
         claimable x                  => x:1500/2000@1000
         withdrawn x 3500
         totals x                     => 0 1500+0 1500 1500 open
         reserve x r3 1 v1501         => !deposit 1500",
    );
}

#[test]
fn a_requested_close_stops_payments_at_once_and_lets_deliveries_finish() {
    check(
        "open m 1000
         reserve m r1 50 v100         => reserved 50
         exit m all @90000
         reserve m r2 10              => !Closing
         voucher m 200                => !Closing
         extend r1 60                 => !Closing
         capture r1 50                => charged 50 =50
         stay m
         reserve m r2 10              => reserved 10
         capture r2 10                => charged 10 =60
         voucher m 200                => accepted 200
         exit m all @90000
         closed m
         reserve m r3 10              => !Closed
         totals m                     => 0 60+0 200 1000 closed",
    );
}

#[test]
fn a_deposit_that_was_withdrawn_beyond_what_was_charged_freezes_the_channel() {
    check(
        "open x 5000
         reserve x r1 1000 v1000      => reserved 1000
         capture r1 700               => charged 700 =700
         withdrawn x 4800
         totals x                     => 0 700+0 1000 200 Uncovered
         reserve x r2 100 v800        => !Uncovered
         claimable x                  => x:200/1000
         deposit x 900
         totals x                     => 0 700+0 700 900 open
         reserve x r2 100 v800        => reserved 100
         withdrawn x 150
         totals x                     => 0 700+100 800 750 Uncovered
         capture r2 50                => charged 50 =750
         totals x                     => 0 750+0 750 750 open",
    );
}

#[test]
fn an_id_that_comes_back_after_a_refund_starts_from_what_was_charged() {
    check(
        "open x 5000
         reserve x r1 5000 v5000      => reserved 5000
         capture r1 700               => charged 700 =700
         claim x 700                  => claim 0
         claimed x 700
         refunded x 4300
         totals x                     => 700 700+0 700 700 open
         claimable x                  =>
         deposit x 2000
         reserve x r2 100 v5000       => !step 800
         reserve x r2 100 v800        => reserved 100
         capture r2 100               => charged 100 =800
         totals x                     => 700 800+0 800 2000 open
         claimable x                  => x:800/800",
    );
}

#[test]
fn deposits_that_are_not_confirmed_count_within_the_limit_only() {
    let script = |limit: &str| {
        format!(
            "announce x 1000              => accepted 0
             reserve x r1 300 v300        => {limit}"
        )
    };
    check(&script("!deposit 0"));
    check_with(200, &script("!deposit 200"));
    check_with(
        500,
        "announce x 1000              => accepted 0
         reserve x r1 300 v300        => reserved 300
         capture r1 300               => charged 300 =300
         claimable x                  =>
         announce x2 1000             => accepted 0
         reserve x2 r2 300 v300       => !deposit 200
         reserve x2 r2 200 v200       => reserved 200
         opened x
         deposit x 1000
         totals x                     => 0 300+0 300 1000 open
         reserve x r3 700 v1000       => reserved 700
         capture r2 200               => charged 200 =200
         lost x2                      => accepted 200
         totals x2                    => 0 200+0 200 0 Uncovered
         announce x3 1000             => accepted 0
         reserve x3 r4 301 v301       => !deposit 300
         deposit x2 500
         totals x2                    => 0 200+0 200 500 open",
    );
    check_with(
        500,
        "announce m 400               => accepted 0
         reserve m r1 100 v300        => reserved 100
         capture r1 100               => charged 100 =100
         deposit m 200
         totals m                     => 0 100+0 300 200 open
         lost m                       => accepted 100
         totals m                     => 0 100+0 100 200 open",
    );
}

#[test]
fn a_reorganisation_freezes_until_the_chain_has_told_everything_again() {
    check(
        "open x 5000
         open x2 100
         reserve x r1 1000 v1000      => reserved 1000
         capture r1 700               => charged 700 =700
         reserve x r2 100 v800        => reserved 100
         claim x 700                  => claim 0
         claimed x 700
         sweep                        => 700
         swept x 300
         sweep                        => 400
         seen x 90
         reset x
         totals x                     => 0 700+100 1000 0 Reorganised
         reserve x2 r3 1 v1           => !Reorganised
         capture r2 100               => charged 100 =800
         opened x
         deposit x 5000
         seen x 89
         totals x                     => 0 800+0 1000 5000 Reorganised
         claimable x                  =>
         claimed x 700
         seen x 90
         totals x                     => 700 800+0 1000 5000 open
         sweep                        => 700
         totals x2                    => 0 0+0 0 0 open
         reserve x2 r3 1 v1           => !deposit 0",
    );
}

#[test]
fn claimed_beyond_what_was_charged_is_inherited_or_freezes() {
    check(
        "open x 5000
         claimed x 1200
         totals x                     => 1200 1200+0 1200 5000 open
         claimed x 1300
         totals x                     => 1300 1300+0 1300 5000 open
         reserve x r1 100 v1400       => reserved 100
         capture r1 60                => charged 60 =1360
         claimed x 1400
         totals x                     => 1400 1360+0 1400 5000 Behind
         reserve x r2 40 v1400        => !Behind",
    );
}

#[test]
fn a_claim_is_under_way_until_the_chain_confirmed_each_row() {
    check(
        "open x 5000
         open x2 5000
         reserve x r1 1000 v1000      => reserved 1000
         capture r1 700               => charged 700 =700
         reserve x2 r2 10 v10         => reserved 10
         capture r2 10                => charged 10 =10
         claimable x                  => x:700/1000 x2:10/10
         claim x 701                  => !NotClaimable
         claim x 700 x 600            => !ClaimRows
         claim x 700 x2 10            => claim 0
         claimable x                  =>
         claim x 700                  => !NotClaimable
         reserve x r3 100 v800        => reserved 100
         capture r3 100               => charged 100 =800
         crash
         landed 0                     => done
         claimed x 700
         claimable x                  => x:800/1000
         landed 0                     => done
         failed 0 x2                  => done
         failed 0                     => !UnknownClaim
         claimable x                  => x:800/1000
         reserve x2 r4 1 v11          => !Quarantined
         release x2                   => done
         claimable x                  => x:800/1000 x2:10/10
         claim x2 10                  => claim 1
         signed 1                     => done
         signed 2                     => !UnknownClaim
         quarantine x                 => done
         claimable x                  =>
         quarantine x3                => !UnknownChannel
         crash
         claimable x                  =>
         release x                    => done
         claimable x                  => x:800/1000
         claimed x2 10
         signed 1                     => !UnknownClaim
         landed 1                     => done
         landed 2                     => !UnknownClaim",
    );
}

#[test]
fn a_voucher_that_is_taken_whole_is_never_above_what_was_charged() {
    check(
        "open m 5000
         reserve m r1 100 v100        => reserved 100
         voucher m 200                => accepted 200
         voucher m 300                => accepted 300
         voucher m 400                => accepted 400
         voucher m 500                => accepted 500
         voucher m 600                => accepted 600
         claimable m                  =>
         capture r1 99                => charged 99 =99
         claimable m                  =>
         reserve m r2 250             => reserved 250
         capture r2 250               => charged 250 =349
         claimable m                  => m:300/300
         claim m 200                  => !NotClaimable
         claim m 300                  => claim 0
         claimed m 300
         claimable m                  =>
         reserve m r3 251             => reserved 251
         capture r3 251               => charged 251 =600
         claimable m                  => m:600/600
         sweep                        =>",
    );
}

// R-51.
#[test]
fn a_voucher_that_the_charges_have_reached_is_kept_though_more_is_accepted() {
    check(
        "open m 5000
         reserve m r1 900 v1000       => reserved 900
         capture r1 700               => charged 700 =700
         claimable m                  =>
         voucher m 701                => accepted 1000
         claimable m                  =>
         voucher m 600                => accepted 1000
         claimable m                  => m:600/600
         voucher m 700                => accepted 1000
         claimable m                  => m:700/700
         voucher m 650                => accepted 1000
         claimable m                  => m:700/700
         crash
         claimable m                  => m:700/700
         claimed m 700
         voucher m 690                => accepted 1000
         claimable m                  =>
         reserve m r2 300             => reserved 300
         capture r2 300               => charged 300 =1000
         claimable m                  => m:1000/1000",
    );
}

// R-54.
#[test]
fn rows_of_a_closed_channel_are_over() {
    check(
        "open m 5000
         open m2 5000
         reserve m r1 100 v100        => reserved 100
         capture r1 100               => charged 100 =100
         reserve m2 r2 100 v100       => reserved 100
         capture r2 100               => charged 100 =100
         claim m 100 m2 100           => claim 0
         closed m
         claimed m2 100
         landed 0                     => done
         failed 0                     => !UnknownClaim",
    );
}

#[test]
fn a_single_payment_is_delivered_once() {
    check(
        "once a1 r1 500 @49           => !AuthorizationEnding
         once a1 r1 500 @6000         => !AuthorizationTooLong
         once a1 r1 500 @1000         => reserved 500
         once a1 r1 500 @1000         => under way 500 0
         once a1 r2 500 @1000         => !AuthorizationUsed
         sent a1                      => !UnknownAuthorization
         capture r1 400               => !NotWhole
         void r1                      => voided
         payment a1                   => none
         once a1 r2 500 @1000         => reserved 500
         capture r2 500               => charged 500 =500
         once a1 r2 500 @1000         => charged 500 =500 again
         once a1 r3 500 @1000         => !AuthorizationUsed
         sent a1                      => done
         bounced a1                   => done
         sent a1                      => done
         crash
         once a1 r3 500 @1000         => !AuthorizationUsed
         paid a1
         payment a1                   => Paid { transaction: b\"tx\" }
         bounced a1                   => done
         payment a1                   => Paid { transaction: b\"tx\" }
         wait 998
         payment a1                   => Paid { transaction: b\"tx\" }",
    );
    check(
        "once a1 r1 500 @200          => reserved 500
         mark r1 400                  => !NotWhole
         wait 150
         payment a1                   => none
         once a2 r2 500 @1000         => reserved 500
         mark r2 500                  => marked 500
         paid a2
         crash
         payment a2                   => Paid { transaction: b\"\" }
         extend r2 600                => !UnknownRequest",
    );
}

#[test]
fn a_single_payment_is_charged_when_it_is_about_to_be_sent() {
    check(
        "collect r1                   => !UnknownRequest
         once a1 r1 500 @1000         => reserved 500
         crash
         payment a1                   => none
         once a1 r1 500 @1000         => reserved 500
         collect r1                   => charged 500 =500
         payment a1                   => Submitted { transaction: b\"tx\" }
         collect r1                   => !UnknownRequest
         crash
         payment a1                   => Submitted { transaction: b\"tx\" }
         once a1 r1 500 @1000         => charged 500 =500 again
         paid a1
         payment a1                   => Paid { transaction: b\"tx\" }
         open m 1000
         reserve m r2 50 v50          => reserved 50
         collect r2                   => !UnknownRequest
         once a3 r3 500 @1000         => reserved 500
         paid a3
         collect r3                   => charged 500 =500
         payment a3                   => Paid { transaction: b\"tx\" }
         wait 998
         wait 1500
         payment a1                   => none",
    );
}

#[test]
fn a_payer_whose_payment_failed_is_refused() {
    check(
        "once a1 r1 500 @1000         => reserved 500
         collect r1                   => charged 500 =500
         bounced a1                   => done
         payment a1                   => Failed { reason: \"reverted\", is_owed: true }
         once a2 r2 500 @1000         => !PayerInDefault
         crash
         once a2 r2 500 @1000         => !PayerInDefault
         paid a1
         once a2 r2 500 @1000         => reserved 500
         collect r2                   => charged 500 =500
         withheld a2                  => done
         payment a2                   => Failed { reason: \"reverted\", is_owed: false }
         once a4 r4 500 @1000         => reserved 500
         void r4                      => voided
         bounced a2                   => done
         wait 1500
         once a3 r3 500 @2500         => !PayerInDefault
         wait 9000
         payment a2                   => none
         once a3 r3 500 @12000        => reserved 500",
    );
}

#[test]
fn a_closed_channel_is_put_away_when_nothing_is_left_to_do() {
    let mut world = World::new(0);
    for line in ["open m 1000", "reserve m r1 50 v50", "capture r1 50", "closed m"] {
        world.line(line);
    }
    world.restart();
    assert_eq!(world.totals("m"), "0 50+0 50 1000 closed", "what was not claimed stays in sight");
    world.line("claimed m 50");
    world.check();
    world.restart();
    assert_eq!(world.totals("m"), "none");
    // A process that still knows it takes back what a reorganisation undoes.
    let mut world = World::new(0);
    for line in ["open m 1000", "reserve m r1 50 v50", "capture r1 50", "claimed m 50", "seen m 9", "closed m", "reset m"] {
        world.line(line);
    }
    world.restart();
    for line in ["opened m", "deposit m 1000", "claimed m 50", "seen m 9"] {
        world.line(line);
    }
    assert_eq!(world.totals("m"), "50 50+0 50 1000 open");
}

#[test]
fn a_voucher_is_the_signers_for_this_channel_and_escrow() {
    let mut world = World::new(0);
    world.line("open x 5000");
    let statement = EscrowVoucher { channel: channel("x"), cumulative: CumulativeAmount::from_units(10) };
    let stranger = EvmSecretKey::from_bytes(&[0x33; 32]).expect("a key");
    let owner = EvmSecretKey::from_bytes(&[0x22; 32]).expect("a key");
    let cases = [
        (voucher("x2", 10), EscrowRejection::WrongChannel { actual: channel("x2") }),
        (
            owner.sign(statement, &other_domain()).expect("signs"),
            EscrowRejection::WrongEscrow { expected: *domain(EXACT).separator(), actual: *other_domain().separator() },
        ),
        (
            stranger.sign(statement, &domain(EXACT)).expect("signs"),
            EscrowRejection::WrongSigner { expected: owner.account(), actual: stranger.account() },
        ),
    ];
    for (voucher, expected) in cases {
        let reserve = Reserve {
            channel: channel("x"),
            request: request("r"),
            fingerprint: millstream_engine::escrow::Fingerprint::from_bytes([1; 16]),
            ceiling: Amount::from_units(10),
            at_least: Amount::from_units(10),
            voucher: Some(voucher),
            stored: None,
        };
        match world.input(EscrowInput::Reserve(reserve)) {
            EscrowAnswer::Rejected { rejection, channel: Some(snapshot) } => {
                assert_eq!((rejection, snapshot.terms), (expected, terms("x")));
            }
            other => panic!("{other:?}"),
        }
        world.check();
    }
}

#[test]
fn what_the_operator_or_the_chain_may_not_change_is_refused() {
    let mut world = World::new(0);
    let changed = millstream_engine::escrow::Escrow { token: Address::from_bytes([7; 20]), ..escrow(EXACT, 0) };
    let refused = EscrowRejection::EscrowChanged { escrow: EXACT };
    assert_eq!(world.input(EscrowInput::Serve(changed)), EscrowAnswer::Rejected { rejection: refused, channel: None });
    assert_eq!(world.input(EscrowInput::Serve(escrow(EXACT, 9))), EscrowAnswer::Done);
    assert_eq!(world.engine.escrow(EXACT), Some(&escrow(EXACT, 9)));
    world.line("open x 100");
    world.line("open x 100");
    let other = EscrowTerms { payer: Address::from_bytes([7; 20]), ..terms("x") };
    let cases = [
        (EscrowFact::Opened(other), Fault::EscrowTerms { channel: channel("x") }),
        (
            EscrowFact::Deposited { channel: channel("x2"), deposit: Amount::from_units(1) },
            Fault::UnknownEscrowChannel { channel: channel("x2") },
        ),
        (EscrowFact::Withdrawn { channel: channel("x"), amount: Amount::from_units(101) }, Fault::EscrowFell { channel: channel("x") }),
    ];
    for (fact, fault) in cases {
        assert_eq!(world.apply(Input::EscrowFact(fact)), Err(fault));
    }
}

#[test]
fn small_charges_come_to_what_one_large_one_would() {
    // [R-12] [R-30]
    check(
        "open m 5000
         reserve m r1 10 v500         => reserved 10
         reserve m r2 10              => reserved 10
         mark r1 0.3                  => marked 0.3
         capture r1 0.25              => !BelowDelivered
         capture r1 0.3               => charged 1 =1
         mark r2 0.4                  => marked 0.4
         crash
         reserve m r2 10              => charged 0 =1 again
         reserve m r3 10              => reserved 10
         capture r3 0.3               => charged 0 =1
         reserve m r4 10              => reserved 10
         capture r4 9.000000000000000001 => charged 10 =11
         reserve m r5 1               => reserved 1
         capture r5 1.000000000000000001 => !BeyondReserved
         capture r5 0.999999999999999999 => charged 0 =11
         reserve m r6 3               => reserved 3
         void r6                      => voided
         reserve m r7 1               => reserved 1
         mark r7 0.5                  => marked 0.5
         void r7                      => charged 1 =12
         totals m                     => 0 12+0 500 5000 open",
    );
}

#[test]
fn less_than_the_ceiling_is_held_where_less_will_do() {
    // [R-6] [R-11]
    check(
        "open m 120
         reserve m r1 80 v100 l10     => reserved 80
         reserve m r2 80 l21          => !insufficient 101
         reserve m r2 80 l20          => reserved 20
         reserve m r3 80 l0           => reserved 0
         extend r2 60 l21             => !insufficient 101
         extend r2 60 l0              => reserved 20
         voucher m 120                => accepted 120
         extend r2 60 l0              => reserved 40
         capture r1 0                 => charged 0 =0
         extend r2 60 l20             => reserved 60
         extend r3 5 l5               => reserved 5
         totals m                     => 0 0+65 120 120 open
         capture r3 5                 => charged 5 =5
         capture r2 60                => charged 60 =65",
    );
}
