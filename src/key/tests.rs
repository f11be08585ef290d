use http::header::{ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::{Method, Request, Uri};
use sha2::{Digest, Sha256};

use super::*;

/// The head of a request with this target and these fields.
fn head(target: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(Method::GET).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn of_request(parts: &Parts, rules: &KeyRules) -> Result<Key, Unkeyable> {
    KeyBuilder::of_request(parts, rules, 0).map(|builder| builder.base().to_key())
}

fn key_by(rules: &KeyRules, target: &str, fields: &[(&str, &str)]) -> Key {
    of_request(&head(target, fields), rules).unwrap()
}

fn key(target: &str, fields: &[(&str, &str)]) -> Key {
    key_by(&KeyRules::default(), target, fields)
}

fn shows(key: &Key, text: &str) -> bool {
    let canonical = key.canonical();
    canonical
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn a_key_is_stable_across_versions() {
    // A change here makes every stored response of every user a miss.
    let key = key("/products/7?lang=en", &[("host", "example.com")]);
    let expected = b"\x01\0\0\0r\0\0\0\0\x04\0\0\0http\x0b\0\0\0example.com\x0b\0\0\0/products/7\x07\0\0\0lang=en";
    assert_eq!(key.canonical(), expected);
    assert_eq!(key.hash(), 0xfbe7_07ed_845b_b86e_c63b_9e06_5128_c98d);
    // A field that counts: its name, its lines, and an end.
    let field = b"\x06\0\0\0x-host\x01\0\0\0b\0\0\0\0";
    let with = self::key(
        "/products/7?lang=en",
        &[("host", "example.com"), ("x-host", "b")],
    );
    assert_eq!(with.canonical(), [&expected[..], field].concat());
    // Credentials are there as a digest.
    let rules = KeyRules {
        headers: vec![AUTHORIZATION],
        ..KeyRules::default()
    };
    let secret = [("host", "example.com"), ("authorization", "Basic eA==")];
    let secret = key_by(&rules, "/products/7?lang=en", &secret);
    let digest = Sha256::digest(b"Basic eA==");
    let field = [
        b"\x0d\0\0\0authorization\x20\0\0\0",
        &digest[..],
        b"\0\0\0\0",
    ]
    .concat();
    assert_eq!(secret.canonical(), [&expected[..], &field].concat());
}

#[test]
fn different_requests_have_different_keys() {
    type Request<'a> = (&'a str, &'a [(&'a str, &'a str)]);
    let host: &[(&str, &str)] = &[("host", "a")];
    let table: [(&str, Request<'_>, Request<'_>); 18] = [
        ("path", ("/a", host), ("/b", host)),
        ("case of the path", ("/a", host), ("/A", host)),
        ("trailing slash", ("/a", host), ("/a/", host)),
        ("percent-encoding", ("/a", host), ("/%61", host)),
        ("dot segments", ("/a/../b", host), ("/b", host)),
        ("query", ("/?a=1", host), ("/?a=2", host)),
        (
            "order of the query",
            ("/?a=1&b=2", host),
            ("/?b=2&a=1", host),
        ),
        ("empty query", ("/", host), ("/?", host)),
        ("path against query", ("/a?b", host), ("/a%3Fb", host)),
        ("host", ("/", host), ("/", &[("host", "b")])),
        ("port", ("/", host), ("/", &[("host", "a:81")])),
        ("no host", ("/", host), ("/", &[])),
        (
            "forwarded host",
            ("/", host),
            ("/", &[("host", "a"), ("x-forwarded-host", "evil")]),
        ),
        (
            "an empty forwarded host",
            ("/", host),
            ("/", &[("host", "a"), ("x-forwarded-host", "")]),
        ),
        (
            "one or two forwarded lines",
            (
                "/",
                &[("host", "a"), ("forwarded", "x"), ("forwarded", "y")],
            ),
            ("/", &[("host", "a"), ("forwarded", "x, y")]),
        ),
        (
            "which header it came in",
            ("/", &[("host", "a"), ("x-host", "b")]),
            ("/", &[("host", "a"), ("x-forwarded-host", "b")]),
        ),
        (
            "method override",
            ("/", host),
            ("/", &[("host", "a"), ("x-http-method-override", "DELETE")]),
        ),
        (
            "original URL",
            ("/", host),
            ("/", &[("host", "a"), ("x-original-url", "/admin")]),
        ),
    ];
    for (name, one, other) in table {
        let (one, other) = (key(one.0, one.1), key(other.0, other.1));
        assert_ne!(one.canonical(), other.canonical(), "{name}");
        assert_ne!(one.hash(), other.hash(), "{name}");
    }
}

#[test]
fn every_forwarding_header_of_the_default_list_counts() {
    let plain = key("/", &[("host", "a")]);
    for name in KeyRules::default().forwarded.iter() {
        let with = key("/", &[("host", "a"), (name.as_str(), "x")]);
        assert_ne!(with, plain, "{name}");
    }
}

#[test]
fn requests_for_the_same_resource_have_the_same_key() {
    let table = [
        (
            "HTTP/1.1 and HTTP/2",
            key("/p?q", &[("host", "example.com")]),
            key("http://example.com/p?q", &[]),
        ),
        (
            "both authority and host",
            key("http://example.com/", &[("host", "example.com")]),
            key("http://example.com/", &[]),
        ),
        (
            "HTTP/1.1 and HTTP/2, spelt alike",
            key("/", &[("host", "Example.com:80")]),
            key("http://Example.com:80/", &[]),
        ),
        (
            "headers that do not count",
            key("/", &[("host", "a"), ("user-agent", "x"), ("cookie", "y")]),
            key("/", &[("host", "a")]),
        ),
    ];
    for (name, one, other) in table {
        assert_eq!(one, other, "{name}");
        assert_eq!(one.hash(), other.hash(), "{name}");
    }
}

#[test]
fn the_other_scheme_s_default_port_is_a_port() {
    assert_ne!(key("https://a:80/", &[]), key("https://a/", &[]));
    assert_ne!(key("/", &[("host", "a:443")]), key("/", &[("host", "a")]));
}

#[test]
fn the_scheme_of_origin_form_is_the_policy_s() {
    let rules = KeyRules {
        scheme: Scheme::Https,
        ..KeyRules::default()
    };
    let fields: &[(&str, &str)] = &[("host", "a")];
    assert_eq!(key_by(&rules, "/", fields), key("https://a/", &[]));
    assert_ne!(key_by(&rules, "/", fields), key("/", fields));
    let port = key_by(&rules, "/", &[("host", "a:443")]);
    assert_eq!(port.target(), key("https://a/", &[]).target());
}

#[test]
fn what_cannot_be_keyed_is_told_apart() {
    use Unkeyable::{ConflictingHost, InvalidHost};
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Unkeyable);
    let table: [Case<'_>; 9] = [
        ("http://a/", &[("host", "b")], ConflictingHost),
        ("http://a/", &[("host", "a:81")], ConflictingHost),
        ("/", &[("host", "a"), ("host", "a")], ConflictingHost),
        ("/", &[("host", "a"), ("host", "b")], ConflictingHost),
        ("/", &[("host", "user@a")], InvalidHost),
        ("/", &[("host", "a/b")], InvalidHost),
        ("/", &[("host", "a b")], InvalidHost),
        ("/", &[("host", "a?b#c")], InvalidHost),
        ("http://user:word@a/", &[], InvalidHost),
    ];
    for (target, fields, expected) in table {
        let got = of_request(&head(target, fields), &KeyRules::default());
        assert_eq!(got.unwrap_err(), expected, "{target} {fields:?}");
    }
}

#[test]
fn no_byte_moves_from_one_component_to_the_next() {
    let namespace = |name: &str| KeyRules {
        namespace: name.to_owned(),
        ..KeyRules::default()
    };
    let one = key_by(&namespace("ab"), "/c", &[("host", "d")]);
    let other = key_by(&namespace("a"), "/bc", &[("host", "d")]);
    assert_ne!(one.canonical(), other.canonical());
    assert_ne!(
        Key::of_value("ab", "c").canonical(),
        Key::of_value("a", "bc").canonical()
    );
    // A value named like a response is still a value.
    let response = key("/", &[("host", "a")]);
    let name = String::from_utf8_lossy(response.canonical()).into_owned();
    assert_ne!(Key::of_value("", &name).canonical(), response.canonical());
    assert!(Key::of_value("", &name).target().is_none());
}

#[test]
fn a_key_tells_its_target_again() {
    let key = key("http://Example.com:80/a/b?c=d", &[]);
    let target = key.target().unwrap();
    assert_eq!(target.scheme, b"http");
    assert_eq!(target.authority.as_deref(), Some(&b"example.com"[..]));
    assert_eq!(target.path, b"/a/b");
    assert_eq!(target.query, Some(&b"c=d"[..]));
    let read_back = Key::from_canonical(key.canonical());
    assert_eq!(read_back, key);
    assert_eq!(read_back.hash(), key.hash());
}

#[test]
fn a_strange_canonical_form_has_no_target_and_no_panic() {
    let whole = key("/a?b", &[("host", "c")]);
    for length in 0..whole.canonical().len() {
        let cut = Key::from_canonical(&whole.canonical()[..length]);
        let _whatever = cut.target();
    }
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\xfe\xff\xff\xff", b"\x01\0\0\0"] {
        assert!(Key::from_canonical(bytes).target().is_none());
    }
}

#[test]
fn a_dropped_header_is_neither_in_the_key_nor_in_the_request() {
    let name = HeaderName::from_static("x-forwarded-proto");
    let policy = crate::Policy::builder()
        .drop_header(name.clone())
        .build()
        .unwrap();
    let mut parts = head("/", &[("host", "a"), ("x-forwarded-proto", "https")]);
    policy.key.strip_request(&mut parts);
    assert!(!parts.headers.contains_key(name));
    let stripped = of_request(&parts, &policy.key).unwrap();
    assert_eq!(stripped, key_by(&policy.key, "/", &[("host", "a")]));
}

#[test]
fn an_added_forwarding_header_counts_whatever_else_is_dropped() {
    let policy = crate::Policy::builder()
        .drop_header(HeaderName::from_static("x-host"))
        .forwarded_header(HeaderName::from_static("cdn-device"))
        .build()
        .unwrap();
    let with = key_by(&policy.key, "/", &[("host", "a"), ("cdn-device", "phone")]);
    let without = key_by(&policy.key, "/", &[("host", "a")]);
    assert_ne!(with, without);
}

#[test]
fn key_headers_count_when_absent_too() {
    let rules = KeyRules {
        headers: vec![ACCEPT_LANGUAGE],
        ..KeyRules::default()
    };
    let by = |fields: &[(&str, &str)]| key_by(&rules, "/", fields);
    let absent = by(&[]);
    let empty = by(&[("accept-language", "")]);
    let german = by(&[("accept-language", "de")]);
    let twice = by(&[("accept-language", "de"), ("accept-language", "en")]);
    let keys = [absent, empty, german, twice];
    for (at, one) in keys.iter().enumerate() {
        for other in &keys[at + 1..] {
            assert_ne!(one.canonical(), other.canonical());
        }
    }
}

#[test]
fn key_cookies_count_by_their_value_only() {
    let rules = KeyRules {
        cookies: vec!["theme".to_owned()],
        ..KeyRules::default()
    };
    let by = |cookie: &str| key_by(&rules, "/", &[("cookie", cookie)]);
    assert_eq!(by("theme=dark"), by("session=1; theme=dark"));
    assert_eq!(by("theme=dark; session=1"), by("theme=dark;session=2"));
    assert_ne!(by("theme=dark"), by("theme=light"));
    assert_ne!(by("theme="), by("session=1"));
    // Another cookie whose name begins or ends alike is another cookie.
    assert_eq!(by("mytheme=dark"), by("session=1"));
    assert_eq!(by("themes=dark"), by("session=1"));
}

#[test]
fn secrets_are_never_in_the_canonical_form() {
    let rules = KeyRules {
        headers: vec![AUTHORIZATION, COOKIE],
        cookies: vec!["session".to_owned()],
        ..KeyRules::default()
    };
    let fields: &[(&str, &str)] = &[
        ("authorization", "Bearer hunter2"),
        ("cookie", "session=hunter2"),
    ];
    let base = key_by(&rules, "/", fields);
    let parts = head("/", fields);
    let variant = base.variant(&[AUTHORIZATION, COOKIE], &parts.headers);
    for key in [&base, &variant] {
        assert!(!shows(key, "hunter2"));
        assert!(!format!("{key:?}").contains("hunter2"));
    }
    // They count all the same.
    let other = key_by(&rules, "/", &[("authorization", "Bearer hunter3")]);
    assert_ne!(base, other);
}

#[test]
fn variants_differ_by_what_the_named_fields_mean() {
    let base = key("/", &[("host", "a")]);
    let variant = |fields: &[(&str, &str)]| {
        base.variant(&[ACCEPT, ACCEPT_LANGUAGE], &head("/", fields).headers)
    };
    let german = variant(&[("accept-language", "de")]);
    assert_ne!(german, base);
    assert_ne!(german, variant(&[("accept-language", "en")]));
    assert_ne!(german, variant(&[("accept", "de")]));
    assert_ne!(german, variant(&[]));
    assert_eq!(german, variant(&[("accept-language", "de"), ("dnt", "1")]));
    assert_eq!(german.target(), base.target());
}

#[test]
fn query_rules_change_the_key_and_the_request_alike() {
    let only = QueryRule::Only(vec!["id".to_owned()]);
    let except = QueryRule::Except(vec!["utm_*".to_owned()]);
    let table = [
        (QueryRule::Exact, "/p?b=1&a=2", "/p?b=1&a=2"),
        (QueryRule::Sorted, "/p?b=1&a=2", "/p?a=2&b=1"),
        (only.clone(), "/p?x=1&id=7", "/p?id=7"),
        (only, "/p?x=1", "/p"),
        (except.clone(), "/p?utm_source=x&b=1", "/p?b=1"),
        (except.clone(), "http://h/p?utm_source=x", "http://h/p"),
        (except, "/p", "/p"),
    ];
    for (query, sent, seen) in table {
        let rules = KeyRules {
            query: query.clone(),
            ..KeyRules::default()
        };
        let mut parts = head(sent, &[]);
        rules.strip_request(&mut parts);
        assert_eq!(parts.uri.to_string(), seen, "{query:?}");
        let stripped = of_request(&parts, &rules).unwrap();
        assert_eq!(stripped, key(seen, &[]), "{query:?}");
    }
}

/// What stands between two layers of one cache may decide who sees a page.
#[test]
fn what_one_layer_stores_a_layer_around_it_does_not_find() {
    let parts = head("/p?q", &[("host", "a")]);
    let keys = [0, 1, 2].map(|depth| {
        let builder = KeyBuilder::of_request(&parts, &KeyRules::default(), depth);
        builder.unwrap().base().to_key()
    });
    assert_eq!(keys[0], key("/p?q", &[("host", "a")]));
    assert_ne!(keys[0], keys[1]);
    assert_ne!(keys[1], keys[2]);
    for key in &keys {
        assert_eq!(key.target(), keys[0].target(), "purges reach all of them");
    }
}

#[cfg(feature = "axum")]
mod nested {
    use axum::extract::OriginalUri;

    use super::*;

    fn nested(original: &str, seen: &str) -> Parts {
        let mut parts = head(seen, &[("host", "a")]);
        let original = OriginalUri(original.parse().unwrap());
        parts.extensions.insert(original);
        parts
    }

    fn nested_key(original: &str, seen: &str) -> Key {
        of_request(&nested(original, seen), &KeyRules::default()).unwrap()
    }

    #[test]
    fn nested_routes_are_keyed_by_what_the_client_asked_for() {
        let fields: &[(&str, &str)] = &[("host", "a")];
        for (original, seen) in [("/shop/p?q", "/p?q"), ("/shop", "/")] {
            let named = key(original, fields);
            assert_eq!(nested_key(original, seen).target(), named.target());
        }
        assert_ne!(nested_key("/shop/p", "/p"), nested_key("/blog/p", "/p"));
    }

    #[test]
    fn a_rewritten_uri_counts_as_well() {
        let rewritten = nested_key("/p", "/tenants/7/p");
        assert_ne!(rewritten, nested_key("/p", "/p"));
        assert_ne!(rewritten, nested_key("/p", "/tenants/8/p"));
        assert_ne!(nested_key("/p", "/p?tenant=7"), nested_key("/p", "/p"));
        assert_ne!(nested_key("/x", "/"), nested_key("/x", "/x"));
        assert_eq!(rewritten.target(), key("/p", &[("host", "a")]).target());
    }

    #[test]
    fn a_query_rule_changes_both_uris() {
        let rules = KeyRules {
            query: QueryRule::Except(vec!["utm_*".to_owned()]),
            ..KeyRules::default()
        };
        let mut parts = nested("/shop/p?utm_x=1", "/p?utm_x=1");
        rules.strip_request(&mut parts);
        assert_eq!(parts.uri, "/p");
        let OriginalUri(original) = parts.extensions.get().unwrap();
        assert_eq!(*original, "/shop/p");
    }
}

/// What a router or a middleware made of the URI counts beside what the client sent.
#[cfg(feature = "axum")]
#[test]
fn a_rewritten_path_or_query_counts_beside_the_original() {
    let uris = ["/a?q", "/b?q", "/a?r", "/a", "/a?"];
    let mut keys = std::collections::HashSet::new();
    for original in uris {
        let mut of_original = std::collections::HashSet::new();
        for seen in uris {
            let mut parts = head(seen, &[("host", "h")]);
            let original = axum::extract::OriginalUri(original.parse().unwrap());
            parts.extensions.insert(original.clone());
            let made = of_request(&parts, &KeyRules::default()).unwrap();
            let target = made.target().unwrap();
            assert_eq!(target.path, original.0.path().as_bytes());
            assert_eq!(target.query, original.0.query().map(str::as_bytes));
            assert!(of_original.insert(made.canonical().to_vec()), "{seen}");
            assert!(keys.insert(made.canonical().to_vec()), "{seen}");
            let plain = key(&original.0.to_string(), &[("host", "h")]);
            assert_eq!(made == plain, original.0 == seen.parse::<Uri>().unwrap());
        }
    }
    assert_eq!(keys.len(), 25);
}

#[test]
fn a_parameter_is_named_by_what_its_encoded_name_means() {
    let rules = KeyRules {
        query: QueryRule::Except(vec!["a b".to_owned(), "\u{fc}*".to_owned()]),
        ..KeyRules::default()
    };
    for (query, expected) in [
        ("a+b=1&c=2", Some("c=2")),
        ("a%20b=1&c=2", Some("c=2")),
        ("%61%20%62&c=2", Some("c=2")),
        ("%C3%BCx=1&c=2", Some("c=2")),
        ("%c3%bc=1&c=2", Some("c=2")),
        ("a%2Bb=1&c=2", Some("a%2Bb=1&c=2")),
        ("ab=1&c=a+b", Some("ab=1&c=a+b")),
        ("a+b", None),
    ] {
        let mut parts = head(&format!("/?{query}"), &[("host", "a")]);
        rules.strip_request(&mut parts);
        assert_eq!(parts.uri.query(), expected, "{query}");
        let stripped = of_request(&parts, &rules).unwrap();
        let plain = expected.map_or("/".to_owned(), |query| format!("/?{query}"));
        assert_eq!(stripped, key(&plain, &[("host", "a")]), "{query}");
    }
}

#[test]
fn a_key_shows_its_hash_and_nothing_of_what_it_is_of() {
    let key = key("/secret?token=1", &[("host", "a")]);
    assert_eq!(format!("{key:?}"), format!("Key({:032x})", key.hash()));
}

/// The same few bytes, divided in every way over the components: no two divisions are one key.
#[test]
fn however_bytes_are_divided_over_the_components_the_keys_differ() {
    use std::collections::HashMap;
    const BYTES: &str = "aaaa";
    let mut seen: HashMap<Vec<u8>, String> = HashMap::new();
    let mut hashes = std::collections::HashSet::new();
    let mut cases = 0;
    for division in divisions(BYTES.len(), 6) {
        let part = |at: usize| &BYTES[..division[at]];
        for absent in 0..1_u32 << 3 {
            // An absent component is not an empty one; one that has bytes is there.
            let left_out = |bit: u32| absent & (1 << bit) != 0;
            if (0..3).any(|bit| left_out(bit) && division[3 + bit as usize] > 0) {
                continue;
            }
            let rules = KeyRules {
                namespace: part(0).to_owned(),
                headers: vec![HeaderName::from_static("x-key")],
                ..KeyRules::default()
            };
            let host = format!("h{}", part(1));
            let mut target = format!("/{}", part(2));
            if !left_out(0) {
                target.push('?');
                target.push_str(part(3));
            }
            let mut fields = vec![("host", &*host)];
            fields.extend((!left_out(1)).then_some(("x-key", part(4))));
            fields.extend((!left_out(2)).then_some(("x-forwarded-host", part(5))));
            let key = key_by(&rules, &target, &fields);
            let told = format!("{} {target} {fields:?}", rules.namespace);
            let before = seen.insert(key.canonical().to_vec(), told.clone());
            assert_eq!(before, None, "{told}");
            assert!(hashes.insert(key.hash()), "{told}");
            cases += 1;
        }
    }
    assert!(cases >= 456, "{cases}");
}

/// Every way to write `total` as a sum of so many numbers.
fn divisions(total: usize, parts: usize) -> Vec<Vec<usize>> {
    if parts == 1 {
        return vec![vec![total]];
    }
    let mut all = Vec::new();
    for first in 0..=total {
        for mut rest in divisions(total - first, parts - 1) {
            rest.insert(0, first);
            all.push(rest);
        }
    }
    all
}

/// RFC 9110, section 4.2.3, makes few URIs equal; a target makes only hosts and ports equal. The
/// spelling of the host counts beside the target, since handlers see it.
#[test]
fn targets_that_are_spelt_differently_are_different_and_hosts_name_the_same() {
    let paths = [
        "/", "//", "/a", "/a/", "/A", "/%61", "/%41", "/a%2Fb", "/a/b", "/a%2fb", "/./a", "/a/.",
        "/../a", "/a/..", "/a;b", "/a%3Bb", "/a%3Fb", "/a%00", "/a,b", "/*",
    ];
    let queries = [
        "", "?", "?a", "?a=", "?a=b", "?a&b", "?b&a", "?a;b", "?%61", "?A", "?a=/b", "??", "?a+b",
        "?a%20b",
    ];
    // The first of each is the canonical one.
    let hosts: [(&str, &[&str]); 4] = [
        (
            "a.example",
            &["A.example", "a.EXAMPLE", "a.example:80", "a.example:"],
        ),
        ("a.example:81", &["A.Example:81"]),
        ("a.example.", &["A.example.", "a.example.:80"]),
        ("[::1]", &["[::1]:80", "[::1]:"]),
    ];
    let mut seen = std::collections::HashSet::new();
    let mut cases = 0;
    for path in paths {
        for query in queries {
            let target = format!("{path}{query}");
            for (host, spellings) in hosts {
                let one = key(&target, &[("host", host)]);
                assert!(seen.insert(one.canonical().to_vec()), "{host}{target}");
                // HTTP/2, and the absolute form of HTTP/1.1 with and without `Host`.
                let absolute = format!("http://{host}{target}");
                assert_eq!(key(&absolute, &[]), one, "{absolute}");
                let named = one.target();
                for spelling in spellings {
                    let field = key(&target, &[("host", spelling)]);
                    assert_eq!(field.target(), named, "{spelling}{target}");
                    assert!(seen.insert(field.canonical().to_vec()), "{spelling}");
                    let both = key(&absolute, &[("host", spelling)]);
                    assert_eq!(both.target(), named, "{absolute} {spelling}");
                    assert!(seen.insert(both.canonical().to_vec()), "{spelling}");
                    let other = key_by_error(&absolute, &format!("x{spelling}"));
                    assert_eq!(other, Unkeyable::ConflictingHost, "{absolute}");
                    cases += 3;
                }
                cases += 2;
            }
        }
    }
    assert!(cases >= 9800, "{cases}");
}

fn key_by_error(target: &str, host: &str) -> Unkeyable {
    let head = head(target, &[("host", host)]);
    of_request(&head, &KeyRules::default()).unwrap_err()
}
