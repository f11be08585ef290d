//! Lifetimes, ages, and reuse over time.

use std::time::Duration;

use super::*;

#[test]
fn precedence_of_lifetimes() {
    let future = date(400);
    let past = date(-400);
    let now = date(0);
    let table: &[(Lines<'_>, Option<i64>)] = &[
        (&[("cache-control", "max-age=60")], Some(60)),
        (&[("cache-control", "max-age=60, s-maxage=30")], Some(30)),
        (
            &[
                ("cache-control", "s-maxage=30"),
                ("cache-control", "max-age=60"),
            ],
            Some(30),
        ),
        (&[("cache-control", "max-age=1, s-maxage=3600")], Some(3600)),
        (
            &[
                ("cache-control", "max-age=0, s-maxage=3600"),
                ("expires", &past),
            ],
            Some(3600),
        ),
        (
            &[("cache-control", "max-age=60"), ("expires", &past)],
            Some(60),
        ),
        (
            &[("cache-control", "max-age=60"), ("expires", "0")],
            Some(60),
        ),
        (
            &[("cache-control", "max-age=0"), ("expires", &future)],
            None,
        ),
        (
            &[("cache-control", "max-age=x"), ("expires", &future)],
            None,
        ),
        (&[("expires", &future)], Some(400)),
        (&[("expires", &future), ("date", &now)], Some(400)),
        (&[("expires", &future), ("date", "foo")], Some(400)),
        (&[("expires", &future), ("expires", &future)], Some(400)),
        (&[("expires", &future), ("expires", &past)], None),
        (&[("expires", &now)], None),
        (&[("expires", &past)], None),
        (&[("expires", "0")], None),
        (&[("expires", "")], None),
        (
            &[
                ("cdn-cache-control", "max-age=30"),
                ("cache-control", "max-age=60"),
            ],
            Some(30),
        ),
        (
            &[
                ("cdn-cache-control", "max-age=30"),
                ("cache-control", "no-store"),
            ],
            Some(30),
        ),
        (
            &[
                ("cdn-cache-control", "max-age=30"),
                ("cache-control", "private"),
            ],
            Some(30),
        ),
        (
            &[
                ("cdn-cache-control", "max-age=30"),
                ("cache-control", "x=\""),
            ],
            Some(30),
        ),
        (
            &[("cdn-cache-control", "max-age=30"), ("expires", &past)],
            Some(30),
        ),
        (
            &[("cdn-cache-control", "max-age=0"), ("expires", &future)],
            None,
        ),
        (
            &[
                ("cdn-cache-control", "max-age=0"),
                ("cache-control", "max-age=60"),
            ],
            None,
        ),
        (
            &[
                ("cdn-cache-control", "foo"),
                ("cache-control", "max-age=60"),
            ],
            None,
        ),
        (&[("cdn-cache-control", "foo"), ("expires", &future)], None),
        (
            &[
                ("cdn-cache-control", "no-store"),
                ("cache-control", "max-age=60"),
            ],
            None,
        ),
        (
            &[
                ("cdn-cache-control", "private"),
                ("cache-control", "max-age=60"),
            ],
            None,
        ),
        (
            &[
                ("cdn-cache-control", "max-age=30, &"),
                ("cache-control", "max-age=60"),
            ],
            Some(60),
        ),
        (
            &[("cdn-cache-control", ""), ("cache-control", "max-age=60")],
            Some(60),
        ),
        (
            &[
                ("cdn-cache-control", "max-age=30, &"),
                ("cache-control", "no-store"),
            ],
            None,
        ),
        (
            &[
                ("surrogate-control", "max-age=30"),
                ("cache-control", "max-age=60"),
            ],
            Some(60),
        ),
    ];
    for (lines, expected) in table {
        assert_eq!(Case::new(lines).fresh_for(), *expected, "{lines:?}");
    }
}

#[test]
fn the_first_usable_target_wins() {
    let lines = [
        ("a-cache-control", "max-age=1"),
        ("b-cache-control", "max-age=2"),
        ("cache-control", "max-age=3"),
    ];
    let with = |targets: &[&str], lines: &[(&str, &str)]| {
        let targets = targets.iter().map(|name| name.parse().unwrap()).collect();
        Case::new(lines)
            .rules(|rules| rules.targets = targets)
            .fresh_for()
    };
    assert_eq!(
        with(&["a-cache-control", "b-cache-control"], &lines),
        Some(1)
    );
    assert_eq!(
        with(&["b-cache-control", "a-cache-control"], &lines),
        Some(2)
    );
    assert_eq!(
        with(&["c-cache-control", "b-cache-control"], &lines),
        Some(2)
    );
    assert_eq!(with(&[], &lines), Some(3));
    let invalid = [("a-cache-control", "max-age=1,"), lines[1], lines[2]];
    assert_eq!(
        with(&["a-cache-control", "b-cache-control"], &invalid),
        Some(2)
    );
}

#[test]
fn options_and_rules_give_lifetimes() {
    let secs = |secs| Some(Duration::from_secs(secs));
    let case = || Case::cache_control("max-age=60");
    assert_eq!(
        case().options(CacheOptions::new().max_age(5)).fresh_for(),
        Some(5)
    );
    assert_eq!(
        case().rules(|r| r.forced_ttl = secs(7)).fresh_for(),
        Some(7)
    );
    assert_eq!(
        case().rules(|r| r.default_ttl = secs(7)).fresh_for(),
        Some(60)
    );
    assert_eq!(
        case()
            .rules(|r| r.max_ttl = Duration::from_secs(9))
            .fresh_for(),
        Some(9)
    );
    let both = case()
        .options(CacheOptions::new().max_age(5))
        .rules(|r| r.forced_ttl = secs(7));
    assert_eq!(both.fresh_for(), Some(5));
    let zero = Case::cache_control("max-age=0").rules(|r| r.forced_ttl = secs(7));
    assert_eq!(zero.fresh_for(), Some(7));
    let silent = Case::new(&[])
        .rules(|r| r.default_ttl = secs(7))
        .lifetimes();
    assert!(silent.flags.contains(Flags::ASSIGNED));
    assert!(!case().lifetimes().flags.contains(Flags::ASSIGNED));
    let forced = Case::cache_control("no-cache").rules(|r| r.forced_ttl = secs(7));
    assert_eq!(
        forced.admit(),
        Err(Reason::NoFreshness),
        "no-cache is no lifetime"
    );
    let huge = Case::new(&[]).options(
        CacheOptions::new()
            .max_age(u64::MAX)
            .stale_if_error(u64::MAX),
    );
    let huge = huge.rules(|r| r.max_ttl = Duration::MAX).lifetimes();
    assert_eq!(huge.kept_until, Timestamp::MAX);
}

#[test]
fn heuristic_freshness_is_off_by_default_and_a_fraction_of_the_age() {
    let modified = date(-1000);
    let case = || Case::new(&[("last-modified", &modified)]);
    assert_eq!(case().fresh_for(), None);
    assert_eq!(
        case().rules(|r| r.heuristic_percent = Some(10)).fresh_for(),
        Some(100)
    );
    assert_eq!(
        case()
            .status(201)
            .rules(|r| r.heuristic_percent = Some(10))
            .fresh_for(),
        None
    );
    assert_eq!(
        Case::new(&[])
            .rules(|r| r.heuristic_percent = Some(10))
            .fresh_for(),
        None
    );
    let public =
        Case::new(&[("last-modified", &modified), ("cache-control", "public")]).status(599);
    assert_eq!(
        public.rules(|r| r.heuristic_percent = Some(10)).fresh_for(),
        Some(100)
    );
    let explicit = Case::new(&[("last-modified", &modified), ("expires", "0")]);
    assert_eq!(
        explicit
            .rules(|r| r.heuristic_percent = Some(10))
            .fresh_for(),
        Some(0)
    );
}

#[test]
fn age_is_corrected() {
    // (Age, Date's offset, delay) and the age on arrival.
    let table: &[(&[&str], Option<i64>, i64, u64)] = &[
        (&[], None, 0, 0),
        (&[], Some(0), 0, 0),
        (&[], Some(-7200), 0, 7200),
        (&[], Some(7200), 0, 0),
        (&[], None, 5, 5),
        (&[], Some(-3), 5, 5),
        (&["30"], Some(0), 0, 30),
        (&["30"], Some(-10), 5, 35),
        (&["30"], Some(-100), 5, 100),
        (&[" 30\t"], None, 0, 30),
        (&["abc"], None, 0, 0),
        (&["-7200"], None, 0, 0),
        (&["7200.0"], None, 0, 0),
        (&[""], None, 0, 0),
        (&["7200, 0"], None, 0, 7200),
        (&["0, 7200"], None, 0, 0),
        (&["7200", "0"], None, 0, 7200),
        (&["0", "7200"], None, 0, 0),
        (&["3600", "3600"], None, 0, 3600),
        (&["7200;foo=bar"], None, 0, 7200),
        (&["2147483647"], None, 0, 2_000_000_000),
        (&["2147483648"], None, 0, 2_000_000_000),
        (&["99999999999999999999999999"], None, 0, 2_000_000_000),
    ];
    for (ages, made, delay, expected) in table {
        let made = made.map(date);
        let mut lines = vec![("cache-control", "max-age=10000"), ("etag", "\"a\"")];
        lines.extend(ages.iter().map(|age| ("age", *age)));
        lines.extend(made.iter().map(|made| ("date", made.as_str())));
        let mut case = Case::new(&lines);
        case.delay = *delay;
        let lifetimes = case.lifetimes();
        assert_eq!(lifetimes.age(NOW), *expected, "{lines:?} {delay}");
        assert_eq!(lifetimes.age(after(7)), expected + 7, "{lines:?} {delay}");
        assert_eq!(
            lifetimes.remaining(NOW),
            10000 - i64::try_from(*expected).unwrap()
        );
        let stale = *expected >= 10000;
        let judged = reuse(&facts(&[]), &lifetimes, &StorageRules::default(), NOW);
        assert_eq!(judged != Reuse::Fresh, stale, "{lines:?}");
    }
}

/// A date tells whole seconds: within the second it is sent, a response has no age.
#[test]
fn a_date_of_the_same_second_adds_no_age() {
    let made = date(0);
    let case = Case::new(&[("cache-control", "max-age=1"), ("date", &made)]);
    let facts = facts(&[]);
    let now = Timestamp::from_millis(NOW.as_millis() + 999);
    let exchange = Exchange {
        facts: &facts,
        status: case.status,
        headers: &case.response,
        options: None,
        request_time: now,
        response_time: now,
    };
    let lifetimes = admit(&exchange, &case.rules).unwrap().lifetimes;
    assert_eq!(lifetimes.born, now);
}

#[test]
fn slow_and_fast_clocks_of_the_origin() {
    // `Expires` counts from `Date`, whatever our clock says.
    for (made, expires, age, expected) in [
        (-10, 10, Some("25"), None),
        (10, 20, Some("15"), None),
        (400, 300, None, None),
        (400, 500, None, Some(100)),
    ] {
        let (made, expires) = (date(made), date(expires));
        let mut lines = vec![("date", made.as_str()), ("expires", expires.as_str())];
        lines.extend(age.map(|age| ("age", age)));
        assert_eq!(Case::new(&lines).fresh_for(), expected, "{lines:?}");
    }
}

#[test]
fn stale_windows_and_what_forbids_them() {
    let windows = |case: &Case| {
        let lifetimes = case.lifetimes();
        let after_fresh = |until: Timestamp| until.since(lifetimes.fresh_until).as_secs();
        (
            after_fresh(lifetimes.swr_until),
            after_fresh(lifetimes.sie_until),
        )
    };
    let with = "stale-while-revalidate=30, stale-if-error=90";
    let rules = |rules: &mut StorageRules| {
        rules.stale_while_revalidate = Some(Duration::from_secs(5));
        rules.stale_if_error = Some(Duration::from_secs(6));
    };
    for (line, expected) in [
        (format!("max-age=60, {with}"), (30, 90)),
        (format!("max-age=60, immutable, public, {with}"), (30, 90)),
        (format!("max-age=60, no-cache=\"x\", {with}"), (30, 90)),
        ("max-age=60".to_owned(), (5, 6)),
        (
            "max-age=60, stale-while-revalidate=0, stale-if-error=0".to_owned(),
            (0, 0),
        ),
        (
            "max-age=60, stale-while-revalidate=x, stale-if-error=-1".to_owned(),
            (0, 0),
        ),
        (
            "max-age=60, stale-while-revalidate=9, stale-while-revalidate=3".to_owned(),
            (3, 6),
        ),
        (format!("max-age=60, must-revalidate, {with}"), (0, 0)),
        (format!("max-age=60, proxy-revalidate, {with}"), (0, 0)),
        (format!("s-maxage=60, {with}"), (0, 0)),
        (format!("max-age=60, Must-Revalidate;, {with}"), (0, 0)),
        (format!("max-age=60, no-cache, {with}"), (0, 0)),
    ] {
        let mut case = Case::new(&[("cache-control", &line), ("etag", "\"a\"")]).rules(rules);
        assert_eq!(windows(&case), expected, "{line}");
        case.options = Some(
            CacheOptions::new()
                .stale_while_revalidate(7)
                .stale_if_error(8),
        );
        let forbidden = expected == (0, 0) && !line.contains("=0") && !line.contains("=x");
        assert_eq!(
            windows(&case),
            if forbidden { (0, 0) } else { (7, 8) },
            "{line} with options"
        );
    }
    // A lifetime of the handler's own overrules `s-maxage`, so that is not applicable.
    let own = Case::cache_control("s-maxage=60")
        .options(CacheOptions::new().max_age(9).stale_if_error(8));
    assert_eq!(windows(&own), (0, 8));
}

/// Every second of a life: what reuse says, with and without a client's wishes.
#[test]
fn a_life() {
    let rules = StorageRules {
        client_directives: true,
        ..StorageRules::default()
    };
    let plain =
        Case::cache_control("max-age=10, stale-while-revalidate=5, stale-if-error=20").lifetimes();
    let strict = Case::new(&[
        ("cache-control", "max-age=10, must-revalidate"),
        ("etag", "\"a\""),
    ])
    .lifetimes();
    let nothing = facts(&[]);
    for second in 0..1000 {
        let now = after(second);
        let expected = match second {
            0..10 => Reuse::Fresh,
            10..15 => Reuse::StaleWhileRevalidate,
            15..30 => Reuse::Revalidate(Reason::Expired),
            _ => Reuse::Dead,
        };
        assert_eq!(reuse(&nothing, &plain, &rules, now), expected, "{second}");
        assert_eq!(
            may_serve_on_error(&nothing, &plain, &rules, now),
            second < 30,
            "{second}"
        );
        let expected = match second {
            0..10 => Reuse::Fresh,
            10..610 => Reuse::Revalidate(Reason::Expired),
            _ => Reuse::Dead,
        };
        assert_eq!(reuse(&nothing, &strict, &rules, now), expected, "{second}");
        assert_eq!(
            may_serve_on_error(&nothing, &strict, &rules, now),
            second < 10,
            "{second}"
        );
    }
}

#[test]
fn client_directives_count_only_if_the_policy_says_so() {
    use Reason::{Expired, RequestMaxAge, RequestMinFresh, RequestNoCache};
    let revalidate = Reuse::Revalidate;
    let entry = |line: &str| {
        Case::new(&[("cache-control", line), ("etag", "\"a\""), ("age", "30")]).lifetimes()
    };
    let normal = entry("max-age=60");
    let immutable = entry("max-age=60, immutable");
    let strict = entry("max-age=60, must-revalidate");
    // (request, entry, seconds from now, obeyed, ignored)
    let table = [
        (
            "no-cache",
            normal,
            0,
            revalidate(RequestNoCache),
            Reuse::Fresh,
        ),
        (
            "max-age=0",
            normal,
            0,
            revalidate(RequestMaxAge),
            Reuse::Fresh,
        ),
        (
            "max-age=29",
            normal,
            0,
            revalidate(RequestMaxAge),
            Reuse::Fresh,
        ),
        ("max-age=30", normal, 0, Reuse::Fresh, Reuse::Fresh),
        (
            "max-age=30",
            normal,
            1,
            revalidate(RequestMaxAge),
            Reuse::Fresh,
        ),
        (
            "max-age=x",
            normal,
            0,
            revalidate(RequestMaxAge),
            Reuse::Fresh,
        ),
        ("min-fresh=30", normal, 0, Reuse::Fresh, Reuse::Fresh),
        (
            "min-fresh=31",
            normal,
            0,
            revalidate(RequestMinFresh),
            Reuse::Fresh,
        ),
        (
            "min-fresh=4294967295",
            normal,
            0,
            revalidate(RequestMinFresh),
            Reuse::Fresh,
        ),
        (
            "max-stale",
            normal,
            50,
            Reuse::StaleAllowed,
            revalidate(Expired),
        ),
        (
            "max-stale=20",
            normal,
            50,
            Reuse::StaleAllowed,
            revalidate(Expired),
        ),
        (
            "max-stale=19",
            normal,
            50,
            revalidate(Expired),
            revalidate(Expired),
        ),
        (
            "max-stale, max-age=10",
            normal,
            50,
            revalidate(RequestMaxAge),
            revalidate(Expired),
        ),
        (
            "max-stale",
            strict,
            50,
            revalidate(Expired),
            revalidate(Expired),
        ),
        ("max-age=0", immutable, 0, Reuse::Fresh, Reuse::Fresh),
        (
            "max-age=0",
            immutable,
            30,
            revalidate(RequestMaxAge),
            revalidate(Expired),
        ),
        (
            "no-cache",
            immutable,
            0,
            revalidate(RequestNoCache),
            Reuse::Fresh,
        ),
        (
            "max-age=0",
            immutable,
            50,
            revalidate(RequestMaxAge),
            revalidate(Expired),
        ),
        ("no-store", normal, 0, Reuse::Fresh, Reuse::Fresh),
    ];
    for (request, lifetimes, second, obeyed, ignored) in table {
        let facts = facts(&[("cache-control", request)]);
        let with = StorageRules {
            client_directives: true,
            ..StorageRules::default()
        };
        assert_eq!(
            reuse(&facts, &lifetimes, &with, after(second)),
            obeyed,
            "{request} {second}"
        );
        assert_eq!(
            reuse(&facts, &lifetimes, &StorageRules::default(), after(second)),
            ignored,
            "{request} {second}"
        );
    }
}

#[test]
fn what_a_client_may_take_stale_is_kept_only_where_clients_have_a_say() {
    let kept = |line: &str, client_directives: bool| {
        let case = Case::cache_control(line).rules(|r| r.client_directives = client_directives);
        case.lifetimes().kept_until.since(NOW).as_secs()
    };
    assert_eq!(kept("max-age=60", false), 60);
    assert_eq!(kept("max-age=60", true), 660);
    assert_eq!(kept("max-age=60, must-revalidate", true), 60);
    assert_eq!(kept("s-maxage=60", true), 60);
}

/// http-cache-semantics let a client's `max-stale` override `no-cache` and `s-maxage=0`.
#[test]
fn no_client_overrides_a_prohibition() {
    let rules = StorageRules {
        client_directives: true,
        ..StorageRules::default()
    };
    let eager = facts(&[("cache-control", "max-stale, stale-if-error=1000")]);
    for line in [
        "no-cache",
        "no-cache, max-age=60",
        "s-maxage=0",
        "max-age=0, must-revalidate",
        "max-age=0, proxy-revalidate",
    ] {
        let lifetimes = Case::new(&[("cache-control", line), ("etag", "\"a\"")]).lifetimes();
        for second in 0..200 {
            let judged = reuse(&eager, &lifetimes, &rules, after(second));
            assert!(
                matches!(judged, Reuse::Revalidate(_)),
                "{line} {second}: {judged:?}"
            );
            assert!(
                !may_serve_on_error(&eager, &lifetimes, &rules, after(second)),
                "{line} {second}"
            );
        }
    }
}

#[test]
fn a_clients_stale_if_error_needs_the_policy() {
    let lifetimes = Case::new(&[("cache-control", "max-age=10"), ("etag", "\"a\"")]).lifetimes();
    let facts = facts(&[("cache-control", "stale-if-error=20")]);
    let with = StorageRules {
        client_directives: true,
        ..StorageRules::default()
    };
    assert!(may_serve_on_error(&facts, &lifetimes, &with, after(29)));
    assert!(!may_serve_on_error(&facts, &lifetimes, &with, after(30)));
    assert!(!may_serve_on_error(
        &facts,
        &lifetimes,
        &StorageRules::default(),
        after(10)
    ));
    let no_cache = super::facts(&[("cache-control", "no-cache")]);
    assert!(!may_serve_on_error(&no_cache, &lifetimes, &with, NOW));
}

#[test]
fn flags_keep_their_bits() {
    for (flag, bits) in [
        (Flags::NO_CACHE, 1),
        (Flags::MUST_REVALIDATE, 2),
        (Flags::CREDENTIALS_OK, 4),
        (Flags::VALIDATOR, 8),
        (Flags::IMMUTABLE, 16),
        (Flags::ASSIGNED, 32),
    ] {
        assert_eq!(flag.bits(), bits);
        assert_eq!(Flags::from_bits(bits), flag);
    }
    assert_eq!(Flags::from_bits(0xffff).bits(), 0xffff);
}

#[test]
fn clocks_that_jump_back_do_no_harm() {
    let mut case = Case::cache_control("max-age=60");
    case.delay = -500;
    let lifetimes = case.lifetimes();
    assert_eq!(lifetimes.age(NOW), 0);
    assert_eq!(lifetimes.age(after(-1000)), 0);
    assert_eq!(
        reuse(
            &facts(&[]),
            &lifetimes,
            &StorageRules::default(),
            after(-1000)
        ),
        Reuse::Fresh
    );
}

/// RFC 5861, section 4: "500, 502, 503, or 504", and no other.
#[test]
fn four_statuses_are_failures() {
    let failures: Vec<_> = (100..1000)
        .filter(|code| is_failure(StatusCode::from_u16(*code).unwrap()))
        .collect();
    assert_eq!(failures, [500, 502, 503, 504]);
}

#[test]
fn what_has_to_be_validated_says_at_whose_wish() {
    use Reason::{Expired, NoCache, RequestMaxAge, RequestMinFresh, RequestNoCache};
    for (staleness, label, of_request) in [
        (Expired, "expired", false),
        (NoCache, "no-cache", false),
        (RequestNoCache, "request-no-cache", true),
        (RequestMaxAge, "request-max-age", true),
        (RequestMinFresh, "request-min-fresh", true),
    ] {
        assert_eq!(staleness.as_str(), label);
        assert_eq!(staleness.is_of_request(), of_request, "{label}");
    }
}
