//! What may be stored.

use super::*;
use crate::status::Reason as R;

const VALID: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[test]
fn only_get_is_stored() {
    for method in [
        "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "BREW",
    ] {
        let mut case = Case::new(VALID);
        case.method = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(case.admit(), Err(R::Method), "{method}");
    }
    assert!(Case::new(VALID).admit().is_ok());
}

#[test]
fn what_the_request_forbids() {
    for (request, expected) in [
        (("cache-control", "no-store"), R::RequestNoStore),
        (("cache-control", "x; No-Store"), R::RequestNoStore),
        (("content-length", "3"), R::RequestBody),
        (("transfer-encoding", "chunked"), R::RequestBody),
    ] {
        let case = Case::cache_control("public, max-age=60").request(&[request]);
        assert_eq!(case.admit(), Err(expected), "{request:?}");
    }
}

#[test]
fn every_status() {
    let never = [
        304, 401, 403, 407, 412, 416, 417, 421, 426, 428, 429, 431, 511,
    ];
    let assigned = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
    for status in 100..1000 {
        let expected = match status {
            206 => Err(R::Partial),
            ..200 => Err(R::Status),
            status if never.contains(&status) => Err(R::Status),
            _ => Ok(()),
        };
        let explicit = Case::new(VALID).status(status).admit().map(drop);
        assert_eq!(explicit, expected, "{status} with max-age");
        let silent = Case::new(&[]).status(status);
        assert_eq!(
            silent.admit().map(drop),
            expected.and(Err(R::NoFreshness)),
            "{status}"
        );
        for rules in [
            (|rules| rules.default_ttl = Some(secs(5))) as fn(&mut StorageRules),
            |rules| rules.forced_ttl = Some(secs(5)),
        ] {
            let silent = Case::new(&[]).status(status).rules(rules);
            let expected = if assigned.contains(&status) {
                Some(5)
            } else {
                None
            };
            assert_eq!(
                silent.fresh_for(),
                expected,
                "{status} with an assigned lifetime"
            );
        }
        let public = Case::cache_control("public")
            .status(status)
            .rules(|r| r.default_ttl = Some(secs(5)));
        assert_eq!(public.admit().map(drop), expected, "{status} with public");
    }
}

/// Next.js CVE-2025-49826: a 204 took the place of the page. Railway 2026: what says nothing
/// was cached.
#[test]
fn without_freshness_nothing_is_stored() {
    for response in [
        &[][..],
        &[("etag", "\"a\"")],
        &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
        &[("cache-control", "public")],
        &[("cache-control", "must-revalidate")],
        &[("cache-control", "immutable")],
        &[("cache-control", "stale-while-revalidate=60")],
        &[("pragma", "public")],
    ] {
        assert_eq!(
            Case::new(response).admit(),
            Err(R::NoFreshness),
            "{response:?}"
        );
        assert_eq!(
            Case::new(response).status(204).admit(),
            Err(R::NoFreshness),
            "{response:?}"
        );
    }
}

#[test]
fn must_understand() {
    let line = "max-age=60, no-store, must-understand";
    assert!(Case::cache_control(line).admit().is_ok());
    assert!(Case::cache_control(line).status(404).admit().is_ok());
    assert_eq!(
        Case::cache_control(line).status(599).admit(),
        Err(R::MustUnderstand)
    );
    assert_eq!(
        Case::cache_control("max-age=60, must-understand")
            .status(299)
            .admit(),
        Err(R::MustUnderstand)
    );
    assert_eq!(
        Case::cache_control("max-age=60, no-store, must-understand;").admit(),
        Err(R::NoStore)
    );
}

/// Django CVE-2026-8404 and others (`Private` in other letters), http-cache-semantics alike.
#[test]
fn prohibitions_in_any_spelling_beat_every_permission() {
    let prohibitions = [
        ("no-store", R::NoStore),
        ("No-Store", R::NoStore),
        ("NO-STORE=1", R::NoStore),
        ("private", R::Private),
        ("Private", R::Private),
        ("PRIVATE", R::Private),
        ("private=\"\"", R::Private),
        ("private=\"content-type\"", R::Private),
        ("private=\"bad name\"", R::Private),
        ("private;", R::Private),
    ];
    let permissions = [
        "public",
        "s-maxage=60",
        "max-age=60",
        "must-revalidate",
        "immutable",
        "public, s-maxage=60",
    ];
    for (prohibition, expected) in prohibitions {
        for permission in permissions {
            for line in [
                format!("{prohibition}, {permission}"),
                format!("{permission}, {prohibition}"),
                format!("{permission},{prohibition},{permission}"),
                format!("{permission}; {prohibition}"),
            ] {
                let options = CacheOptions::new().max_age(60).public();
                let case = Case::cache_control(&line).options(options).rules(|rules| {
                    rules.forced_ttl = Some(secs(60));
                    rules.default_ttl = Some(secs(60));
                    rules.cookies = CookieRule::Ignore;
                    rules.set_cookie = SetCookieRule::StoreAndStrip;
                });
                assert_eq!(case.admit(), Err(expected), "{line}");
            }
            let lines = [
                ("cache-control", permission),
                ("cache-control", prohibition),
            ];
            assert_eq!(Case::new(&lines).admit(), Err(expected), "{lines:?}");
        }
    }
}

#[test]
fn the_handler_can_forbid() {
    for (options, expected) in [
        (CacheOptions::new().max_age(60).no_store(), R::NoStore),
        (CacheOptions::new().max_age(60).private(), R::Private),
        (
            CacheOptions::new().max_age(60).public().private(),
            R::Private,
        ),
    ] {
        let case = Case::cache_control("public, max-age=60").options(options);
        assert_eq!(case.admit(), Err(expected));
    }
}

#[test]
fn malformed_cache_control_is_not_stored() {
    for line in [
        "max-age=60, x=\"",
        "max-age=60, x=\"no-store",
        "public, max-age=60, \"",
    ] {
        assert_eq!(
            Case::cache_control(line).admit(),
            Err(R::MalformedCacheControl),
            "{line}"
        );
    }
}

/// Django CVE-2026-35193 (missing `Authorization`), undici CVE-2026-13697 and others: the
/// whole matrix of credentials, permissions, `Vary`, and the cookie rule.
#[test]
fn credentials_need_permission() {
    let credentials = [
        &[][..],
        &[("authorization", "Basic eA==")],
        &[("cookie", "a=b")],
        &[("cookie", "a=b"), ("authorization", "Basic eA==")],
    ];
    // (fields, speaks for Authorization, speaks for Cookie)
    let responses: &[(Lines<'_>, bool, bool)] = &[
        (&[("cache-control", "max-age=60")], false, false),
        (&[("cache-control", "max-age=60, public")], true, true),
        (&[("cache-control", "max-age=60, PUBLIC")], true, true),
        (
            &[("cache-control", "max-age=60"), ("cache-control", "public")],
            true,
            true,
        ),
        (&[("cache-control", "s-maxage=60")], true, true),
        (&[("cache-control", "s-maxage=\"60\"")], true, true),
        (
            &[("cache-control", "max-age=60, must-revalidate")],
            true,
            false,
        ),
        (
            &[("cache-control", "max-age=60, proxy-revalidate")],
            false,
            false,
        ),
        (&[("cache-control", "max-age=60, immutable")], false, false),
        (&[("cache-control", "max-age=60, public=")], false, false),
        (&[("cache-control", "max-age=60, x public")], false, false),
        (
            &[("cache-control", "max-age=60, x=\"public\"")],
            false,
            false,
        ),
        (&[("cache-control", "max-age=60, xpublic")], false, false),
        (
            &[("cache-control", "max-age=60, no-cache=\"x\"")],
            false,
            false,
        ),
        (&[("cdn-cache-control", "max-age=60")], true, true),
        (&[("cdn-cache-control", "public, max-age=60")], true, true),
        (&[("cdn-cache-control", "max-age=60, x=\"")], false, false),
        (
            &[
                ("cache-control", "public, max-age=60"),
                ("cdn-cache-control", "max-age=60"),
            ],
            true,
            true,
        ),
    ];
    let varies: &[Lines<'_>] = &[
        &[],
        &[("vary", "cookie")],
        &[("vary", "authorization, cookie")],
        &[("vary", "accept")],
    ];
    let mut cases = 0;
    for request in credentials {
        for (response, for_authorization, for_cookie) in responses {
            for vary in varies {
                for rule in [CookieRule::AsCredentials, CookieRule::Ignore] {
                    for option in [
                        None,
                        Some(CacheOptions::new().max_age(60)),
                        Some(CacheOptions::new().public()),
                    ] {
                        let mut case = Case::new(&[*response, *vary].concat()).request(request);
                        case.rules.cookies = rule;
                        let public = option.as_ref().is_some_and(|option| option.public);
                        let explicit = case.fresh_or(option.as_ref());
                        case.options = option;
                        let has = |name: &str| case.request.contains_key(name);
                        let expected = if has("authorization") && !for_authorization && !public {
                            Some(R::Authorization)
                        } else if has("cookie")
                            && !for_cookie
                            && !public
                            && rule == CookieRule::AsCredentials
                        {
                            Some(R::Cookie)
                        } else if !explicit {
                            Some(R::NoFreshness)
                        } else {
                            None
                        };
                        assert_eq!(
                            case.admit().err(),
                            expected,
                            "{request:?} {response:?} {vary:?} {rule:?} {public}"
                        );
                        cases += 1;
                    }
                }
            }
        }
    }
    assert!(cases > 1500);
}

impl Case {
    /// Whether there is a lifetime anywhere.
    fn fresh_or(&self, options: Option<&CacheOptions>) -> bool {
        let said = |name: &str| {
            let lines = self.response.get_all(name);
            lines.iter().any(|line| {
                line.as_bytes()
                    .windows(5)
                    .any(|part| part == b"axage" || part == b"x-age")
            })
        };
        // The one invalid targeted field in the table stands alone.
        let invalid = self
            .response
            .get("cdn-cache-control")
            .is_some_and(|line| line.as_bytes().ends_with(b"=\""));
        options.is_some_and(|options| options.max_age.is_some())
            || said("cache-control")
            || (said("cdn-cache-control") && !invalid)
    }
}

/// Symfony CVE-2022-24894, Rack::Cache CVE-2012-2671: a cookie was stored for all.
#[test]
fn set_cookie_is_never_stored() {
    let fields: &[Lines<'_>] = &[
        &[("set-cookie", "a=b")],
        &[("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")],
        &[("set-cookie2", "a=b")],
        &[("set-cookie", "")],
    ];
    let directives = [
        "max-age=60",
        "public, max-age=60",
        "s-maxage=60",
        "max-age=60, must-revalidate",
        "max-age=60, immutable",
        "max-age=60, no-cache=\"x\"",
        "max-age=60, private=\"x\"",
    ];
    for fields in fields {
        for directive in directives {
            for options in [None, Some(CacheOptions::new().max_age(5).public())] {
                let lines = [*fields, &[("cache-control", directive), ("x", "1")]].concat();
                let mut case = Case::new(&lines);
                case.options = options;
                assert_eq!(case.admit(), Err(R::SetCookie), "{lines:?}");
                case.rules.set_cookie = SetCookieRule::StoreAndStrip;
                let stored = case.admit().unwrap().lines.to_map(0);
                assert!(!stored.contains_key("set-cookie") && !stored.contains_key("set-cookie2"));
            }
        }
    }
    // Where the response itself says to keep it out of the cache, the rest may be stored.
    for directive in [
        "max-age=60, no-cache=\"set-cookie\"",
        "max-age=60, private=\"Set-Cookie, x\"",
    ] {
        let case = Case::new(&[
            ("cache-control", directive),
            ("set-cookie", "a=b"),
            ("y", "1"),
        ]);
        let stored = case.admit().unwrap().lines.to_map(0);
        assert!(!stored.contains_key("set-cookie") && stored.contains_key("y"));
    }
}

/// Django CVE-2026-6907 and -48587: `Vary: *`, alone, with white space, in any line.
#[test]
fn unusable_vary() {
    for (lines, expected) in [
        (&["*"][..], R::VaryAny),
        (&[" *\t"], R::VaryAny),
        (&["accept", "*"], R::VaryAny),
        (&["accept, *"], R::VaryAny),
        (&["accept encoding"], R::VaryInvalid),
    ] {
        let mut fields = vec![("cache-control", "public, max-age=60")];
        fields.extend(lines.iter().map(|line| ("vary", *line)));
        assert_eq!(Case::new(&fields).admit(), Err(expected), "{lines:?}");
        let options = CacheOptions::new().max_age(60).vary(http::header::ACCEPT);
        assert_eq!(
            Case::new(&fields).options(options).admit(),
            Err(expected),
            "{lines:?}"
        );
    }
}

#[test]
fn vary_of_fields_and_options_add_up() {
    let options = CacheOptions::new()
        .vary(http::header::ACCEPT)
        .vary(http::header::ACCEPT_LANGUAGE)
        .tag("a")
        .tag("b");
    let case = Case::new(&[
        ("cache-control", "max-age=60"),
        ("vary", "Foo"),
        ("vary", "accept"),
    ]);
    let admitted = case.options(options).admit().unwrap();
    assert_eq!(admitted.vary[..], ["accept", "accept-language", "foo"]);
    assert!(admitted.tags.iter().eq(["a", "b"]));
    let many = (0..65).fold(CacheOptions::new().max_age(1), |options, n| {
        options.vary(format!("x{n}").parse().unwrap())
    });
    assert_eq!(Case::new(&[]).options(many).admit(), Err(R::VaryInvalid));
}

#[test]
fn fields_of_vary_and_of_options_are_64_together() {
    let vary = (0..64)
        .map(|n| format!("x{n}"))
        .collect::<Vec<_>>()
        .join(",");
    let lines = [("cache-control", "max-age=60"), ("vary", &*vary)];
    assert_eq!(Case::new(&lines).admit().unwrap().vary.len(), 64);
    for (name, expected) in [("x7", None), ("y", Some(R::VaryInvalid))] {
        let options = CacheOptions::new().vary(name.parse().unwrap());
        assert_eq!(Case::new(&lines).options(options).admit().err(), expected);
    }
}

#[test]
fn tags_are_kept_from_clients_only_where_the_policy_says_so() {
    let lines = [
        ("cache-control", "max-age=60"),
        ("surrogate-key", "a"),
        ("cache-tag", "b"),
        ("x", "1"),
    ];
    for strip in [false, true] {
        let case = Case::new(&lines).rules(|rules| rules.strip_tags = strip);
        let stored = case.admit().unwrap();
        let has = |name: &str| stored.lines.to_map(0).contains_key(name);
        assert_eq!([has("surrogate-key"), has("cache-tag")], [!strip; 2]);
        assert!(has("x") && has("cache-control"));
        assert!(stored.tags.iter().eq(["a", "b"]));
    }
}

/// RFC 9111, section 5.2.1.2: a client may take what is stale; but only what was ever fresh.
#[test]
fn what_was_never_fresh_is_not_kept_for_clients_that_take_stale() {
    for (line, kept) in [("max-age=0", false), ("max-age=1", true)] {
        let case = Case::cache_control(line).rules(|rules| rules.client_directives = true);
        let found = case.admit();
        assert_eq!(found.is_ok(), kept, "{line}");
        let until = found.map(|admitted| admitted.lifetimes.kept_until);
        assert!(
            until.is_err() || until == Ok(after(601)),
            "{line}: {until:?}"
        );
    }
}

#[test]
fn flags_add_up() {
    let one = Flags::NO_CACHE;
    assert_eq!(one.with(one), one);
    let both = one.with(Flags::IMMUTABLE);
    assert!(both.contains(one) && both.contains(Flags::IMMUTABLE));
    assert!(!one.contains(both) && one.intersects(both));
}

#[test]
fn a_zero_lifetime_needs_a_validator() {
    let zero: &[(&str, &str)] = &[
        ("cache-control", "max-age=0"),
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=60, no-cache"),
        ("cache-control", "s-maxage=0, max-age=60"),
        ("cache-control", "max-age=x"),
        ("cache-control", "max-age=-60"),
        ("cache-control", "max-age=60, s-maxage=x"),
        ("expires", "0"),
        ("expires", "-1"),
        ("expires", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("cdn-cache-control", "max-age=0"),
        ("cdn-cache-control", "max-age=\"60\""),
        ("cdn-cache-control", "no-cache"),
    ];
    for field in zero {
        assert_eq!(
            Case::new(&[*field]).admit(),
            Err(R::NoFreshness),
            "{field:?}"
        );
        for validator in [
            ("etag", "\"a\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ] {
            let lifetimes = Case::new(&[*field, validator]).lifetimes();
            assert!(lifetimes.flags.contains(Flags::VALIDATOR));
            assert!(
                lifetimes.kept_until.since(NOW).as_secs() >= 600,
                "{field:?}"
            );
            let reuse = reuse(&facts(&[]), &lifetimes, &StorageRules::default(), NOW);
            assert!(
                matches!(reuse, Reuse::Revalidate(_)),
                "{field:?}: {reuse:?}"
            );
        }
    }
    let window = Case::cache_control("max-age=0, stale-while-revalidate=60").lifetimes();
    assert_eq!(
        reuse(&facts(&[]), &window, &StorageRules::default(), NOW),
        Reuse::StaleWhileRevalidate
    );
}

fn secs(secs: u64) -> std::time::Duration {
    std::time::Duration::from_secs(secs)
}
