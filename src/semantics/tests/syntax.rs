//! Parsers: `Cache-Control`, targeted fields, dates, `Vary`, `Accept-Encoding`.

use super::*;
use crate::semantics::syntax::dates::parse_date;
use crate::semantics::syntax::directives::{
    MaxStale, Qualified, RequestDirectives, ResponseDirectives,
};
use crate::semantics::syntax::seconds::Delta;
use crate::semantics::vary::{Vary, parse_vary};

fn response(lines: &[&str]) -> ResponseDirectives {
    let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
    ResponseDirectives::read(&headers(&lines))
}

fn request(line: &str) -> RequestDirectives {
    facts(&[("cache-control", line)]).directives
}

fn names(list: &[&str]) -> Qualified {
    Qualified::Fields(list.iter().map(|name| name.parse().unwrap()).collect())
}

#[test]
fn seconds_are_read_strictly() {
    use Delta::{Invalid, Seconds};
    let table = [
        ("max-age=3600", Seconds(3600)),
        ("max-age=0", Seconds(0)),
        ("max-age=003600", Seconds(3600)),
        ("max-age=\"3600\"", Seconds(3600)),
        ("max-age=\"36\\00\"", Seconds(3600)),
        ("MaX-aGe=3600", Seconds(3600)),
        ("\tmax-age=3600\t ", Seconds(3600)),
        ("foobar, max-age=3600", Seconds(3600)),
        ("foo=\"a, max-age=7\", max-age=3600", Seconds(3600)),
        ("foo=\"\\\", max-age=7\", max-age=3600", Seconds(3600)),
        (",,, max-age=3600,,", Seconds(3600)),
        ("max-age=2147483648", Seconds(2_147_483_648)),
        ("max-age=99999999999", Seconds(u32::MAX)),
        (
            "max-age=99999999999999999999999999999999999",
            Seconds(u32::MAX),
        ),
        ("max-age=1, max-age=1800", Seconds(1)),
        ("max-age=1800, max-age=1", Seconds(1)),
        ("max-age=1800, max-age=x", Invalid),
        ("max-age", Invalid),
        ("max-age=", Invalid),
        ("max-age=-1", Invalid),
        ("max-age=+1", Invalid),
        ("max-age=3600.0", Invalid),
        ("max-age=a3600", Invalid),
        ("max-age=3600a", Invalid),
        ("max-age='3600'", Invalid),
        ("max-age =3600", Invalid),
        ("max-age= 3600", Invalid),
        ("max-age=3600 7", Invalid),
        ("max-age=3600=7", Invalid),
        ("max-age=3600; x=1", Invalid),
        ("max-age: 3600", Invalid),
        ("max-age=\"3600\"7", Invalid),
        ("max-age=\"3600", Invalid),
        ("max-age=\"\"", Invalid),
        ("max-age=1e3", Invalid),
        ("max-age=0x10", Invalid),
    ];
    for (line, expected) in table {
        assert_eq!(response(&[line]).max_age, expected, "{line}");
    }
    for absent in [
        "",
        "xmax-age=1",
        "max-age-x=1",
        "\"max-age=1\"",
        "x=\"max-age=1\"",
        "max_age=1",
    ] {
        assert_eq!(response(&[absent]).max_age, Delta::Absent, "{absent}");
    }
}

#[test]
fn prohibitions_are_found_however_they_are_written() {
    let spellings = ["no-store", "No-Store", "NO-STORE"];
    let decorations = [
        "{}",
        " {} ",
        "\t{}\t",
        "{},",
        ",{}",
        "max-age=60,{}",
        "max-age=60, {} ,public",
        "{}=1",
        "{}=\"x\"",
        "{}=",
        "{} =1",
        "{};",
        "max-age=60; {}",
        "x=\"a,b\", {}",
        "x=\"\\\"\", {}",
        "@@@, {}",
        "x y {}",
        "ü, {}",
        "x=\"ü\",{}",
        "\"q\", {}",
        "\"q\" {}",
        "x= {}",
    ];
    for spelling in spellings {
        for decoration in decorations {
            let line = decoration.replace("{}", spelling);
            assert!(response(&[&line]).no_store, "{line}");
            assert!(response(&["public", &line]).no_store, "second line: {line}");
            assert!(request(&line).no_store, "request: {line}");
        }
    }
    for line in [
        "\"no-store\"",
        "'no-store'",
        "\"x, no-store\"",
        "\"\\\"no-store\\\"\"",
    ] {
        assert!(response(&[line]).no_store, "{line}");
    }
    for line in [
        "x=\"no-store\"",
        "xno-store",
        "no-storex",
        "no_store",
        "no-store-x",
    ] {
        assert!(!response(&[line]).no_store, "{line}");
    }
}

#[test]
fn permissions_need_the_grammar() {
    for line in ["public", "PUBLIC", " public\t", "public,x"] {
        assert!(response(&[line]).public, "{line}");
    }
    for line in [
        "public=1",
        "public=",
        "public=\"\"",
        "'public'",
        "public;",
        "public x",
        "x public",
        "\"public\"",
        "x=\"public\"",
        "x; public",
        "public@",
    ] {
        assert!(!response(&[line]).public, "{line}");
    }
}

#[test]
fn qualified_directives_are_whole_when_in_doubt() {
    use Qualified::{No, Whole};
    let table = [
        ("{}", Whole),
        ("{}=\"a\"", names(&["a"])),
        ("{}=\"a, B\"", names(&["a", "b"])),
        ("{}=\" a ,\tb ,, \"", names(&["a", "b"])),
        ("{}=a", names(&["a"])),
        ("{}=\"\\a\"", names(&["a"])),
        ("{}=\"a\", {}=\"b\"", names(&["a", "b"])),
        ("{}=\"a\", {}", Whole),
        ("{}, {}=\"a\"", Whole),
        ("{}=\"\"", Whole),
        ("{}=\",\"", Whole),
        ("{}=\"a b\"", Whole),
        ("{}=\"a:\"", Whole),
        ("{}=", Whole),
        ("{} =\"a\"", Whole),
        ("{}= \"a\"", Whole),
        ("{}=\"a\"x", Whole),
        ("{}=\"a", Whole),
        ("{}='a b'", Whole),
        ("x=\"{}\"", No),
        ("x{}", No),
    ];
    for (line, expected) in table {
        for (name, read) in [
            (
                "private",
                (|d| d.private) as fn(ResponseDirectives) -> Qualified,
            ),
            ("no-cache", |d| d.no_cache),
            ("PriVate", |d| d.private),
        ] {
            let line = line.replace("{}", name);
            assert_eq!(read(response(&[&line])), expected, "{line}");
        }
    }
}

#[test]
fn an_unterminated_quote_is_malformed_and_stays_in_its_line() {
    for line in [
        "x=\"",
        "max-age=60, x=\"a, no-store",
        "x=\"a\\",
        "x=\"a\\\"",
        "\"",
        "public \"",
    ] {
        assert!(response(&[line]).malformed, "{line}");
    }
    assert!(response(&["x=\"", "no-store"]).no_store);
    assert!(!response(&["x=\"\\\\\", public"]).malformed);
}

#[test]
fn request_directives() {
    let all =
        request("max-age=5, min-fresh=6, max-stale=7, stale-if-error=8, only-if-cached, no-cache");
    assert_eq!(all.max_age, Some(5));
    assert_eq!(all.min_fresh, Some(6));
    assert_eq!(all.max_stale, MaxStale::Limit(7));
    assert_eq!(all.stale_if_error, Some(8));
    assert!(all.only_if_cached && all.no_cache && !all.no_store);
    for (line, expected) in [
        ("max-stale", MaxStale::Any),
        ("max-stale=10", MaxStale::Limit(10)),
        ("max-stale, max-stale=10", MaxStale::Limit(10)),
        ("max-stale=9, max-stale=10", MaxStale::Limit(9)),
        ("max-stale=x", MaxStale::Absent),
        ("max-stale=", MaxStale::Absent),
        ("max-stale;", MaxStale::Absent),
        ("x", MaxStale::Absent),
    ] {
        assert_eq!(request(line).max_stale, expected, "{line}");
    }
    assert_eq!(request("max-age=x").max_age, Some(0));
    assert_eq!(request("max-age=9, max-age=3").max_age, Some(3));
    assert_eq!(request("min-fresh=9, min-fresh=30").min_fresh, Some(30));
}

#[test]
fn pragma_counts_only_without_cache_control() {
    assert!(facts(&[("pragma", "no-cache")]).directives.no_cache);
    assert!(facts(&[("pragma", "x, No-Cache")]).directives.no_cache);
    assert!(!facts(&[("pragma", "x")]).directives.no_cache);
    assert!(
        !facts(&[("pragma", "no-cache"), ("cache-control", "x")])
            .directives
            .no_cache
    );
    assert!(
        !facts(&[("cache-control", "x"), ("pragma", "no-cache")])
            .directives
            .no_cache
    );
}

#[test]
fn facts_of_a_request() {
    let read = |method: &str, lines: &[(&str, &str)]| {
        RequestFacts::read(
            &Method::from_bytes(method.as_bytes()).unwrap(),
            &headers(lines),
        )
    };
    for (method, class) in [
        ("GET", MethodClass::Get),
        ("HEAD", MethodClass::Head),
        ("OPTIONS", MethodClass::Safe),
        ("TRACE", MethodClass::Safe),
        ("QUERY", MethodClass::Safe),
        ("PROPFIND", MethodClass::Safe),
        ("POST", MethodClass::Unsafe),
        ("PUT", MethodClass::Unsafe),
        ("DELETE", MethodClass::Unsafe),
        ("PATCH", MethodClass::Unsafe),
        ("M-SEARCH", MethodClass::Unsafe),
        ("get", MethodClass::Unsafe),
        ("BREW", MethodClass::Unsafe),
    ] {
        assert_eq!(read(method, &[]).method, class, "{method}");
    }
    assert!(read("GET", &[("authorization", "x")]).authorization);
    assert!(read("GET", &[("cookie", "")]).cookie);
    assert!(read("GET", &[("if-none-match", "*")]).conditional);
    assert!(read("GET", &[("if-modified-since", "x")]).conditional);
    assert!(read("GET", &[("if-match", "*")]).origin_precondition);
    assert!(read("GET", &[("if-unmodified-since", "x")]).origin_precondition);
    assert!(read("GET", &[("range", "bytes=0-")]).range);
    assert!(!read("HEAD", &[("range", "bytes=0-")]).range);
    let nominated = ("connection", "upgrade");
    assert!(read("GET", &[nominated, ("upgrade", "websocket")]).upgrade);
    assert!(!read("GET", &[nominated, ("upgrade", "h2c")]).upgrade);
    assert!(!read("GET", &[("upgrade", "websocket")]).upgrade);
    assert!(read("GET", &[("content-length", "1")]).body);
    assert!(!read("GET", &[("content-length", "0")]).body);
    assert!(read("GET", &[("content-length", "0"), ("content-length", "5")]).body);
    assert!(read("GET", &[("transfer-encoding", "chunked")]).body);
}

#[test]
fn parsing_takes_linear_time() {
    let line = "x=\"a\\\"b\", max-age = 3 ;; foo   \"bar\" ,".repeat(2000);
    assert!(line.len() > 60_000);
    // Quadratic behaviour would take minutes.
    for _ in 0..20 {
        let directives = response(&[&line, &"\"".repeat(60_001), &" ".repeat(60_000)]);
        assert!(directives.malformed);
        let many = (0..10_000).map(|n| format!("x{n},")).collect::<String>();
        assert_eq!(parse_vary(&headers(&[("vary", &many)])), Vary::Invalid);
    }
}

#[test]
fn targeted_fields() {
    let read = |lines: &[&str]| {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| ("cdn-cache-control", *line))
            .collect();
        let targets = StorageRules::default().targets;
        let (found, is_targeted) = targeted::select(&headers(&lines), &targets);
        is_targeted.then_some(found)
    };
    for (line, expected) in [
        ("max-age=3600", Delta::Seconds(3600)),
        ("max-age=0", Delta::Seconds(0)),
        ("foobar, max-age=3600", Delta::Seconds(3600)),
        ("max-age=1, max-age=3600", Delta::Seconds(3600)),
        ("max-age=99999999999", Delta::Seconds(u32::MAX)),
        (
            "max-age=60;a=1;b=\"x\";c;d=:YQ==:;e=?1;f=@1;g=%\"a\"",
            Delta::Seconds(60),
        ),
        ("a=(1 \"b\" c;d=2), max-age=60", Delta::Seconds(60)),
        (
            "a=1.5, b=tok/en:x, c=\"\\\"\\\\\", max-age=60",
            Delta::Seconds(60),
        ),
        ("  max-age=60  ", Delta::Seconds(60)),
        ("x ,\t max-age=60", Delta::Seconds(60)),
        ("max-age=-1", Delta::Invalid),
        ("max-age=\"60\"", Delta::Invalid),
        ("max-age=60.0", Delta::Invalid),
        ("max-age", Delta::Invalid),
        ("max-age=(60)", Delta::Invalid),
        ("max-age=sixty", Delta::Invalid),
    ] {
        assert_eq!(read(&[line]).unwrap().max_age, expected, "{line}");
    }
    for invalid in [
        "",
        " ",
        "max-age =60",
        "max-age= 60",
        "MaX-aGe=60",
        "max-age=60, &&&",
        "max-age=60,",
        ",max-age=60",
        "max-age=60 x",
        "max-age=60;",
        "a=\"",
        "a=\"\\x\"",
        "a=:%:",
        "a=?2",
        "a=1.",
        "a=1.2345",
        "a=1234567890123456",
        "a=-",
        "a=(",
        "a=(1",
        "a=(1\"b\")",
        "a=@1.5",
        "a=",
        "=1",
    ] {
        assert_eq!(read(&[invalid]), None, "{invalid}");
    }
    for odd in ["no-store, a=:YQ=:", "a=%\"%zz\", no-store"] {
        assert!(read(&[odd]).unwrap().no_store, "{odd}");
    }
    let both = read(&["max-age=60", "no-cache=\"a\", private"]).unwrap();
    assert_eq!(both.max_age, Delta::Seconds(60));
    // Once by the grammar, and once as what forbids is found in any spelling.
    assert_eq!(both.no_cache, names(&["a", "a"]));
    assert_eq!(both.private, Qualified::Whole);
    assert_eq!(read(&["max-age=60", "&"]), None);
    assert_eq!(read(&["private=?0"]).unwrap().private, Qualified::Whole);
    assert!(!read(&["public=?0"]).unwrap().public);
}

#[test]
fn dates_in_all_forms() {
    let table = [
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
        ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
        ("Sun Nov 16 08:49:37 1994", Some(784_975_777)),
        (" Sun, 06 Nov 1994 08:49:37 GMT ", Some(784_111_777)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
        ("Tue, 19 Jan 2038 14:14:08 GMT", Some(2_147_523_248)),
        ("Sun, 21 Nov 2286 04:46:39 GMT", Some(10_000_039_599)),
        ("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_800)),
        // Wrong case and wrong weekdays are common and harmless.
        ("THU, 18 AUG 2050 02:01:18 gMT", Some(2_544_400_878)),
        ("Mon, 18 Aug 2050 02:01:18 GMT", Some(2_544_400_878)),
        ("Thursday, 18-Aug-50 02:01:18 GMT", Some(2_544_400_878)),
        ("Thu Aug 18 02:01:18 2050", Some(2_544_400_878)),
        ("Thu, 18 Aug 2050 02:01:18 UTC", None),
        ("Thu, 18 Aug 2050 02:01:18 AEST", None),
        ("Thu, 18 Aug 2050 02:01:18 +0000", None),
        ("Thu, 18 Aug 2050 02:01:18", None),
        ("Thu, 18 Aug 50 02:01:18 GMT", None),
        ("Thu 18 Aug 2050 02:01:18 GMT", None),
        ("Thu, 18  Aug  2050 02:01:18 GMT", None),
        ("Thu, 18-Aug-2050 02:01:18 GMT", None),
        ("Thu, 18 Aug 2050 02.01.18 GMT", None),
        ("Thu, 18 Aug 2050 2:01:18 GMT", None),
        ("Thu, 8 Aug 2050 02:01:18 GMT", None),
        ("Thu, 18 Aug 2050 24:00:00 GMT", None),
        ("Thu, 18 Aug 2050 02:60:18 GMT", None),
        ("Thu, 18 Aug 2050 02:01:61 GMT", None),
        ("Thu, 00 Aug 2050 02:01:18 GMT", None),
        ("Thu, 31 Jun 2050 02:01:18 GMT", None),
        ("Wed, 29 Feb 2023 00:00:00 GMT", None),
        ("Mon, 29 Feb 2100 00:00:00 GMT", None),
        ("Wed, 31 Dec 1969 23:59:59 GMT", None),
        ("Thu, 18 Foo 2050 02:01:18 GMT", None),
        ("Xyz, 18 Aug 2050 02:01:18 GMT", None),
        ("Thu, 18 Aug 2050 02:01:18 GMT x", None),
        ("0", None),
        ("-1", None),
        ("", None),
        ("Thu, ", None),
        ("Thü, 18 Aug 2050 02:01:18 GMT", None),
    ];
    for (text, expected) in table {
        let expected = expected.map(Timestamp::from_secs);
        assert_eq!(parse_date(text.as_bytes(), NOW), expected, "{text}");
    }
}

#[test]
fn dates_agree_with_another_implementation() {
    for secs in (0..253_402_300_800_u64).step_by(98_765_437) {
        let text = dates::format_date(Timestamp::from_secs(secs)).unwrap();
        assert_eq!(
            parse_date(text.as_bytes(), NOW),
            Some(Timestamp::from_secs(secs)),
            "{text}"
        );
    }
    assert_eq!(dates::format_date(Timestamp::MAX), None);
}

#[test]
fn two_digit_years_are_at_most_fifty_years_ahead() {
    let year = |text: &str, now: &str| {
        let now = parse_date(now.as_bytes(), NOW).unwrap();
        let date = parse_date(text.as_bytes(), now)?;
        dates::format_date(date)?.get(12..16).map(str::to_owned)
    };
    let now = "Sun, 22 Nov 2026 12:00:00 GMT";
    for (text, expected) in [
        ("Sunday, 22-Nov-26 00:00:00 GMT", "2026"),
        ("Sunday, 22-Nov-27 00:00:00 GMT", "2027"),
        ("Sunday, 22-Nov-75 00:00:00 GMT", "2075"),
        ("Sunday, 01-Jan-76 00:00:00 GMT", "2076"),
        ("Sunday, 01-Jan-77 00:00:00 GMT", "1977"),
        ("Sunday, 31-Dec-76 00:00:00 GMT", "1976"),
        ("Sunday, 31-Dec-99 00:00:00 GMT", "1999"),
    ] {
        assert_eq!(year(text, now).as_deref(), Some(expected), "{text}");
    }
    assert_eq!(
        year(
            "Sunday, 31-Dec-69 00:00:00 GMT",
            "Thu, 01 Jan 2015 00:00:00 GMT"
        ),
        None
    );
}

#[test]
fn vary_over_lines_and_white_space() {
    let fields =
        |list: &[&str]| Vary::Fields(list.iter().map(|name| name.parse().unwrap()).collect());
    let table: &[(&[&str], Vary)] = &[
        (&[], Vary::None),
        (&[""], Vary::None),
        (&[" , ,"], Vary::None),
        (&["Foo"], fields(&["foo"])),
        (&["foo, Bar"], fields(&["bar", "foo"])),
        (&["foo", "bar"], fields(&["bar", "foo"])),
        (&["\tfoo\t,\tbar ", "FOO"], fields(&["bar", "foo"])),
        (&["*"], Vary::Any),
        (&[" * "], Vary::Any),
        (&["\t*\t"], Vary::Any),
        (&["*, *"], Vary::Any),
        (&["*", "*"], Vary::Any),
        (&[", *"], Vary::Any),
        (&["", "*"], Vary::Any),
        (&["*, Foo"], Vary::Any),
        (&["Foo, *"], Vary::Any),
        (&["Foo", "Bar,\t*"], Vary::Any),
        (&["foo bar"], Vary::Invalid),
        (&["\"foo\""], Vary::Invalid),
        (&["foo;q=1"], Vary::Invalid),
        (&["föö"], Vary::Invalid),
        (&["foo:"], Vary::Invalid),
        // A star is a letter of names as well, and no field has one.
        (&["*x"], Vary::Invalid),
        (&["x*"], Vary::Invalid),
        (&["x-*"], Vary::Invalid),
        (&["**"], Vary::Invalid),
        (&["Foo, *x"], Vary::Invalid),
        (&["Foo", "Bar, *;q=1"], Vary::Invalid),
        (&["*x, *"], Vary::Any),
        (&["foo bar, *"], Vary::Any),
    ];
    for (lines, expected) in table {
        let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
        assert_eq!(parse_vary(&headers(&lines)), *expected, "{lines:?}");
    }
}

#[test]
fn vary_names_at_most_64_fields() {
    let list = |count: usize| {
        (0..count)
            .map(|n| format!("x{n}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert!(
        matches!(parse_vary(&headers(&[("vary", &list(64))])), Vary::Fields(n) if n.len() == 64)
    );
    assert_eq!(parse_vary(&headers(&[("vary", &list(65))])), Vary::Invalid);
    let repeated = format!("{}, {}", list(64), list(64));
    assert!(matches!(
        parse_vary(&headers(&[("vary", &repeated)])),
        Vary::Fields(_)
    ));
}

/// ASP.NET Core issue 45998: `Accept-Encoding` split the cache in useless variants.
#[test]
fn accept_encoding_is_the_set_of_codings_accepted() {
    let normal = |lines: &[&str]| {
        let values: Vec<_> = lines
            .iter()
            .map(|line| HeaderValue::from_bytes(line.as_bytes()).unwrap())
            .collect();
        String::from_utf8_lossy(&normalize_accept_encoding(&values)).into_owned()
    };
    let same: &[&[&[&str]]] = &[
        &[
            &["gzip, br"],
            &["br,gzip"],
            &["BR", "GZip"],
            &["gzip;q=0.5 , br ; q=1.000"],
            &["x-gzip, br, identity"],
            &["gzip, br, zstd;q=0"],
            &["br, gzip, *;q=0, identity"],
        ],
        &[
            &[""],
            &["identity"],
            &["gzip;q=0"],
            &["identity;q=0.1"],
            &[","],
        ],
        &[&["*"], &["*, gzip"], &["*;q=0.3, identity;q=1"]],
    ];
    for group in same {
        for lines in *group {
            assert_eq!(normal(lines), normal(group[0]), "{lines:?}");
        }
    }
    for (lines, expected) in [
        (&["gzip, br"][..], "br,gzip"),
        (&["identity"], ""),
        (&["*"], "*"),
        (&["*, br;q=0"], "-br,*"),
        (&["gzip, identity;q=0"], "gzip,-identity"),
        (&["gzip, *;q=0"], "gzip,-identity"),
        (&["*;q=0"], "-identity"),
        (&["gzip;q=2"], "=gzip;q=2"),
        (&["gzip;q=0, gzip"], "=gzip;q=0, gzip"),
        (&["gzip;level=1"], "=gzip;level=1"),
        (&["g zip"], "=g zip"),
        (&["gzip;q=0.0000"], "=gzip;q=0.0000"),
    ] {
        assert_eq!(normal(lines), expected, "{lines:?}");
    }
}

#[test]
fn variants_differ_exactly_where_requests_do() {
    let value = |name: &str, lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| (name, *line)).collect();
        let mut out = Vec::new();
        variant_value(&name.parse().unwrap(), &headers(&lines), &mut out);
        out
    };
    let same: &[(&str, &[&str], &[&str])] = &[
        ("foo", &["1, 2"], &["1", "2"]),
        ("foo", &["1, 2"], &[" 1, 2 "]),
        ("foo", &["a  b"], &[" a  b\t"]),
        ("accept-language", &["en, de"], &["de, en"]),
        ("accept-language", &["en, de"], &["eN, De"]),
        ("accept-language", &["en, de;q=0.5"], &[" de ; q=0.5,   en"]),
        ("accept", &["text/html;q=1"], &["text/html ; q=1"]),
        ("accept-encoding", &["gzip, br"], &["br", "gzip"]),
        // HTTP/2 divides cookies over lines, HTTP/1.1 does not.
        ("cookie", &["a=1; b=2"], &["a=1", "b=2"]),
    ];
    for (name, one, other) in same {
        assert_eq!(
            value(name, one),
            value(name, other),
            "{name}: {one:?} {other:?}"
        );
    }
    let different: &[(&str, &[&str], &[&str])] = &[
        ("foo", &[], &[""]),
        ("foo", &["1"], &["2"]),
        ("foo", &["1"], &["1", "1"]),
        ("foo", &["a b"], &["a  b"]),
        // Whether white space counts in a field, only its own syntax says.
        ("foo", &["1,2"], &["1, 2"]),
        ("x-user", &["smith , john"], &["smith,john"]),
        ("foo", &["A"], &["a"]),
        ("foo", &["\"a, b\""], &["\"a,b\""]),
        ("foo", &["\"\\\", \""], &["\"\\\",\""]),
        ("cookie", &["a=1, 2"], &["a=1,2"]),
        // One cookie of an odd value is not two cookies.
        ("cookie", &["a=1, b=2"], &["a=1", "b=2"]),
        ("accept-language", &["en, de;q=0.5"], &["en;q=0.5, de"]),
        ("accept-encoding", &[], &[""]),
        ("accept-encoding", &["gzip"], &["br"]),
    ];
    for (name, one, other) in different {
        assert_ne!(
            value(name, one),
            value(name, other),
            "{name}: {one:?} {other:?}"
        );
    }
}

#[test]
fn variant_values_cannot_run_into_each_other() {
    let key = |request: &[(&str, &str)]| {
        let mut out = Vec::new();
        for name in ["a", "b"] {
            variant_value(&name.parse().unwrap(), &headers(request), &mut out);
        }
        out
    };
    let mut keys = std::collections::HashSet::new();
    let values = ["", "x", "xx", "\t1", "xx, x"];
    assert!(keys.insert(key(&[])));
    for a in values {
        assert!(keys.insert(key(&[("a", a)])));
        assert!(keys.insert(key(&[("b", a)])));
        for b in values {
            assert!(keys.insert(key(&[("a", a), ("b", b)])));
        }
    }
}
