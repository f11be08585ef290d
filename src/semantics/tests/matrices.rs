//! Products of small tables. What is expected stands beside each table, as the rule has it; the
//! code under test is never asked for it. Each matrix counts its cases, so that none can shrink
//! unnoticed.

use super::*;
use crate::semantics::syntax::directives::{Qualified, ResponseDirectives};
use crate::semantics::syntax::seconds::Delta;
use crate::semantics::vary::{Vary, parse_vary};

fn read(lines: &[&str]) -> ResponseDirectives {
    let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
    ResponseDirectives::read(&headers(&lines))
}

/// A name in four spellings: RFC 9111, section 5.2, "directives are identified by a token, to
/// be compared case-insensitively".
fn spellings(name: &str) -> [String; 4] {
    let mixed = |first_upper: bool| {
        let upper = |at: usize| at.is_multiple_of(2) == first_upper;
        let spelt = name.char_indices().map(|(at, letter)| {
            if upper(at) {
                letter.to_ascii_uppercase()
            } else {
                letter
            }
        });
        spelt.collect()
    };
    [
        name.to_owned(),
        name.to_ascii_uppercase(),
        mixed(true),
        mixed(false),
    ]
}

/// A line by itself, before another, and behind another.
fn arrangements(line: &str) -> [Vec<&str>; 3] {
    [vec![line], vec![line, "x=1"], vec!["x=\"a, b\"", line]]
}

type Flag = (&'static str, Kind, fn(&ResponseDirectives) -> bool);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Holds however it is written.
    Prohibition,
    /// Needs the grammar.
    Permission,
}

const FLAGS: [Flag; 8] = [
    ("no-store", Kind::Prohibition, |read| read.no_store),
    ("private", Kind::Prohibition, |read| {
        read.private == Qualified::Whole
    }),
    ("no-cache", Kind::Prohibition, |read| {
        read.no_cache == Qualified::Whole
    }),
    ("must-revalidate", Kind::Prohibition, |read| {
        read.must_revalidate
    }),
    ("proxy-revalidate", Kind::Prohibition, |read| {
        read.proxy_revalidate
    }),
    ("public", Kind::Permission, |read| read.public),
    ("immutable", Kind::Permission, |read| read.immutable),
    ("must-understand", Kind::Permission, |read| {
        read.must_understand
    }),
];

/// What the grammar of a list allows around an element (RFC 9110, section 5.6.1).
const CLEAN: [&str; 12] = [
    "{}",
    " {}",
    "{}\t",
    "\t {} \t",
    ",{},",
    ", ,\t{} ,",
    "x, {}",
    "{},x=1",
    "{} ,\tx=\"1\"",
    "x=\"a, b\\\"c\" , {}",
    "x=\"\t\",{}",
    "x=\"\u{fc}\", {}",
];

/// What it does not.
const SLOPPY: [&str; 9] = [
    "{};",
    "{} x",
    "x {}",
    "y; {}",
    "{}\u{fc}",
    "\u{fc} {}",
    "@{}",
    "\"q\" {}",
    "{} \"q\"",
];

#[test]
fn a_directive_is_found_in_any_spelling_place_and_line_and_no_other_is() {
    let mut cases = 0;
    for (name, kind, _) in FLAGS {
        for spelling in spellings(name) {
            for (place, clean) in CLEAN
                .map(|place| (place, true))
                .into_iter()
                .chain(SLOPPY.map(|place| (place, false)))
            {
                let line = place.replace("{}", &spelling);
                for lines in arrangements(&line) {
                    let found = read(&lines);
                    for (other, _, is_set) in FLAGS {
                        let expected = other == name && (clean || kind == Kind::Prohibition);
                        assert_eq!(is_set(&found), expected, "{other} in {lines:?}");
                    }
                    assert_eq!(found.max_age, Delta::Absent, "{lines:?}");
                    cases += 1;
                }
            }
        }
    }
    assert!(cases >= 2016, "{cases}");
}

/// The directives of one line of a targeted field. A Dictionary's keys are in lower case, and a
/// key without a value is true (RFC 9651, section 3.2).
fn read_targeted(line: &str) -> ResponseDirectives {
    let fields = headers(&[("cdn-cache-control", line)]);
    let (found, is_targeted) = targeted::select(&fields, &StorageRules::default().targets);
    assert!(is_targeted, "{line}: no Dictionary");
    found
}

#[test]
fn a_targeted_directive_is_found_and_no_other_is() {
    let places = [
        "{}",
        "x, {}",
        "{}, x=1",
        "x=(a \"b\");c=1,\t{}",
        "  {} ,y=\"z\"  ",
    ];
    let values = [
        ("", true),
        ("=?1", true),
        (";a=1;b", true),
        ("=?1;a=?0", true),
        // What no permission is may still forbid.
        ("=?0", false),
        ("=1", false),
        ("=x", false),
        ("=(a)", false),
    ];
    let mut cases = 0;
    for (name, kind, _) in FLAGS {
        for place in places {
            for (value, permits) in values {
                let line = place.replace("{}", &format!("{name}{value}"));
                let found = read_targeted(&line);
                for (other, _, is_set) in FLAGS {
                    let expected = other == name && (permits || kind == Kind::Prohibition);
                    assert_eq!(is_set(&found), expected, "{other} in {line}");
                }
                cases += 1;
            }
        }
    }
    for (name, _) in SECONDS {
        for place in places {
            for (value, expected) in [
                ("=0", Delta::Seconds(0)),
                ("=60", Delta::Seconds(60)),
                ("=4294967296", Delta::Seconds(u32::MAX)),
                ("=999999999999999;a", Delta::Seconds(u32::MAX)),
                ("=-1", Delta::Invalid),
                ("=60.0", Delta::Invalid),
                ("=\"60\"", Delta::Invalid),
                ("", Delta::Invalid),
            ] {
                let line = place.replace("{}", &format!("{name}{value}"));
                let found = read_targeted(&line);
                for (other, seconds) in SECONDS {
                    let expected = if other == name {
                        expected
                    } else {
                        Delta::Absent
                    };
                    assert_eq!(seconds(&found), expected, "{other} in {line}");
                }
                cases += 1;
            }
        }
    }
    assert!(cases >= 480, "{cases}");
}

type Seconds = (&'static str, fn(&ResponseDirectives) -> Delta);

const SECONDS: [Seconds; 4] = [
    ("max-age", |read| read.max_age),
    ("s-maxage", |read| read.s_maxage),
    ("stale-while-revalidate", |read| read.stale_while_revalidate),
    ("stale-if-error", |read| read.stale_if_error),
];

/// RFC 9111, section 1.2.2: `delta-seconds = 1*DIGIT`; beyond what can be represented, the
/// greatest that can.
const VALUES: [(&str, Option<u32>); 24] = [
    ("0", Some(0)),
    ("1", Some(1)),
    ("60", Some(60)),
    ("007", Some(7)),
    ("2147483647", Some(2_147_483_647)),
    ("2147483648", Some(2_147_483_648)),
    ("4294967295", Some(u32::MAX)),
    ("4294967296", Some(u32::MAX)),
    ("99999999999999999999999999", Some(u32::MAX)),
    ("", None),
    ("-1", None),
    ("-0", None),
    ("+1", None),
    ("1.0", None),
    ("1.5", None),
    ("1e3", None),
    ("0x1", None),
    ("1 2", None),
    ("1a", None),
    ("a1", None),
    ("'1'", None),
    ("1;2", None),
    ("\u{fc}", None),
    ("\u{661}", None),
];

#[test]
fn seconds_are_digits_and_nothing_else_quoted_or_not() {
    let mut cases = 0;
    for (name, value) in SECONDS {
        for spelling in spellings(name) {
            for (text, secs) in VALUES {
                let expected = secs.map_or(Delta::Invalid, Delta::Seconds);
                for line in [
                    format!("{spelling}={text}"),
                    format!("{spelling}=\"{text}\""),
                ] {
                    for lines in arrangements(&line) {
                        let found = read(&lines);
                        for (other, other_value) in SECONDS {
                            let expected = if other == name {
                                expected
                            } else {
                                Delta::Absent
                            };
                            assert_eq!(other_value(&found), expected, "{other} in {lines:?}");
                        }
                        assert_eq!(value(&found), expected, "{lines:?}");
                        cases += 1;
                    }
                }
            }
        }
    }
    assert!(cases >= 2304, "{cases}");
}

/// RFC 9111, section 4.2.1: of repeated directives, the most restrictive.
#[test]
fn of_repeated_seconds_the_fewest_count_and_one_that_is_none_spoils_all() {
    let values = [
        ("0", Some(0)),
        ("1", Some(1)),
        ("60", Some(60)),
        ("99999999999", Some(u32::MAX)),
        ("x", None),
        ("", None),
    ];
    let mut cases = 0;
    for (name, value) in SECONDS {
        for (one, one_secs) in values {
            for (other, other_secs) in values {
                let expected = match (one_secs, other_secs) {
                    (Some(one), Some(other)) => Delta::Seconds(one.min(other)),
                    _ => Delta::Invalid,
                };
                let (one, other) = (format!("{name}={one}"), format!("{name}={other}"));
                let together = format!("{one}, {other}");
                let apart = format!("{one}, x=\"y\",{other}");
                for lines in [vec![&*one, &*other], vec![&*together], vec![&*apart]] {
                    assert_eq!(value(&read(&lines)), expected, "{lines:?}");
                    cases += 1;
                }
            }
        }
    }
    assert!(cases >= 432, "{cases}");
}

/// The same of requests, where what is unparsable is as strict as can be or nothing.
#[test]
fn of_repeated_request_directives_the_strictest_counts() {
    use crate::semantics::syntax::directives::MaxStale;
    let values = [
        ("0", Some(0)),
        ("1", Some(1)),
        ("60", Some(60)),
        ("99999999999", Some(u32::MAX)),
        ("x", None),
    ];
    let mut cases = 0;
    for (one, one_secs) in values {
        for (other, other_secs) in values {
            let both = [one_secs, other_secs];
            let known = || both.into_iter().flatten();
            let line = |name: &str| {
                let line = format!("{name}={one}, {name}={other}");
                cases += 1;
                facts(&[("cache-control", &line)]).directives
            };
            let mut line = line;
            let max_age = both.into_iter().map(|secs| secs.unwrap_or(0)).min();
            assert_eq!(line("max-age").max_age, max_age, "{one} {other}");
            assert_eq!(line("min-fresh").min_fresh, known().max(), "{one} {other}");
            let stale = line("stale-if-error").stale_if_error;
            assert_eq!(stale, known().min(), "{one} {other}");
            let limit = known().min().map_or(MaxStale::Absent, MaxStale::Limit);
            assert_eq!(line("max-stale").max_stale, limit, "{one} {other}");
        }
    }
    assert!(cases >= 100, "{cases}");
}

#[test]
fn a_qualified_directive_names_its_fields_however_they_are_separated() {
    let lists: [&[&str]; 4] = [&["a"], &["a", "b"], &["B", "a", "c"], &["a", "a"]];
    let separators = [",", ", ", " ,\t", ",,", " , , "];
    let around = [("", ""), (",", ""), ("", ","), (" \t", "  "), (", ,", " ,")];
    let mut cases = 0;
    for name in ["private", "no-cache"] {
        for spelling in spellings(name) {
            for list in lists {
                for separator in separators {
                    for (before, after) in around {
                        let joined = list.join(separator);
                        let line = format!("{spelling}=\"{before}{joined}{after}\"");
                        let names = list.iter().map(|name| name.to_lowercase().parse().unwrap());
                        let expected = Qualified::Fields(names.collect());
                        let found = read(&[&line]);
                        let (its, others) = if name == "private" {
                            (found.private, found.no_cache)
                        } else {
                            (found.no_cache, found.private)
                        };
                        assert_eq!(its, expected, "{line}");
                        assert_eq!(others, Qualified::No, "{line}");
                        cases += 1;
                    }
                }
            }
        }
    }
    assert!(cases >= 800, "{cases}");
}

/// What a list that is odd forbids is unknown, so it forbids everything.
#[test]
fn a_qualified_directive_with_an_odd_list_holds_for_the_whole_response() {
    let odd = [
        "a b",
        "a:",
        "\u{fc}",
        "a;",
        "(a)",
        "a=b",
        "<>",
        "\\\"a\\\"",
        "a/b",
        "@",
    ];
    let mut cases = 0;
    for name in ["private", "no-cache"] {
        for spelling in spellings(name) {
            for odd in odd {
                for list in [
                    odd.to_owned(),
                    format!("{odd}, a"),
                    format!("a, {odd}"),
                    format!("a,b,{odd},c"),
                ] {
                    let line = format!("{spelling}=\"{list}\"");
                    let found = read(&[&line]);
                    let of_it = |read: ResponseDirectives| match name {
                        "private" => read.private,
                        _ => read.no_cache,
                    };
                    assert_eq!(of_it(found), Qualified::Whole, "{line}");
                    // Nor does a good one beside it make it better.
                    let two = [&*line, &format!("{name}=\"a\"")];
                    assert_eq!(of_it(read(&two)), Qualified::Whole, "{two:?}");
                    cases += 2;
                }
            }
        }
    }
    assert!(cases >= 640, "{cases}");
}

/// Thousands of directives, in lines of 64 KiB: a prohibition among them is found.
#[test]
fn a_prohibition_is_found_among_thousands_of_others() {
    let fillers = [
        "x,",
        "x=1 ,",
        "x=\"a,b\\\"\",",
        " ,\t,",
        "max-age=60,",
        "\u{fc},",
        "no-storex,",
        "x privat e;,",
        "x=\"no-store\",",
    ];
    let mut cases = 0;
    for filler in fillers {
        let many = filler.repeat(32 * 1024 / filler.len());
        for (name, _, is_set) in FLAGS.iter().filter(|flag| flag.1 == Kind::Prohibition) {
            assert!(!is_set(&read(&[&many])), "{name} not among {filler}");
            cases += 1;
            for line in [
                format!("{name},{many}{many}"),
                format!("{many}{name},{many}"),
                format!("{many}{many}{name}"),
            ] {
                assert!(line.len() > 60_000);
                assert!(is_set(&read(&[&line])), "{name} among {filler}");
                cases += 1;
            }
        }
    }
    assert!(cases >= 180, "{cases}");
}

/// RFC 9213, section 2.2, then RFC 9111, section 4.2.1: the targeted field, `s-maxage`,
/// `max-age`, `Expires`, the first that is there; invalid is zero.
#[test]
fn the_first_lifetime_in_order_of_precedence_counts() {
    type Field<'a> = &'a [(&'a str, Option<i64>)];
    let later = date(90);
    let past = date(-90);
    let targeted: Field<'_> = &[
        ("", None),
        ("max-age=120", Some(120)),
        ("max-age=0", Some(0)),
        ("max-age=\"120\"", Some(0)),
        // Not a Dictionary: the field does not count.
        ("max-age=120,", None),
        ("max-age=120 x", None),
    ];
    let s_maxage: Field<'_> = &[
        ("", None),
        ("s-maxage=30", Some(30)),
        ("s-maxage=0", Some(0)),
        ("s-maxage=x", Some(0)),
        ("s-maxage", Some(0)),
    ];
    let max_age: Field<'_> = &[
        ("", None),
        ("max-age=60", Some(60)),
        ("max-age=0", Some(0)),
        ("max-age=-1", Some(0)),
    ];
    let expires: Field<'_> = &[
        ("", None),
        (&later, Some(90)),
        (&past, Some(0)),
        ("0", Some(0)),
        ("soon", Some(0)),
    ];
    let now = date(0);
    let mut cases = 0;
    for (targeted, t) in targeted {
        for (shared, s) in s_maxage {
            for (all, m) in max_age {
                for (expires, e) in expires {
                    let control = format!("{shared}, {all}");
                    let mut lines = vec![("date", &*now), ("etag", "\"a\"")];
                    lines.push(("cache-control", &control));
                    lines
                        .extend((!targeted.is_empty()).then_some(("cdn-cache-control", *targeted)));
                    lines.extend((!expires.is_empty()).then_some(("expires", *expires)));
                    // With a validator, what is stale from the start is stored as well.
                    let expected = t.or(*s).or(*m).or(*e);
                    let found = Case::new(&lines).fresh_for();
                    let found = found.map(|secs| secs.max(0));
                    assert_eq!(found, expected, "{lines:?}");
                    cases += 1;
                }
            }
        }
    }
    assert!(cases >= 600, "{cases}");
}

/// RFC 9110, section 12.5.5, and RFC 9111, section 4.1: a `*` anywhere fails to match.
#[test]
fn vary_star_is_found_in_any_place_of_any_line() {
    let all = ["accept", "X-Cookie", "accept-encoding"];
    let stars = ["*", " *", "*\t", "\t * "];
    let separators = [",", ", ", "\t,\t", ",,", " , , "];
    let mut cases = 0;
    for length in 0..=all.len() {
        for position in 0..=length {
            for star in stars {
                let mut members = all[..length].to_vec();
                members.insert(position, star);
                for separator in separators {
                    for split in 0..=members.len() {
                        let (first, second) = members.split_at(split);
                        let lines = [first.join(separator), second.join(separator)];
                        for companion in ["", "a b", "\u{fc}"] {
                            let fields = headers(&[
                                ("vary", companion),
                                ("vary", &lines[0]),
                                ("vary", &lines[1]),
                            ]);
                            assert_eq!(parse_vary(&fields), Vary::Any, "{fields:?}");
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(cases >= 2400, "{cases}");
}

#[test]
fn vary_names_the_same_fields_in_any_order_case_and_division() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let names = ["accept", "cookie", "x"];
    let separators = [",", ", ", "\t,\t", ",,", " , , "];
    let expected: Vec<HeaderName> = names.map(HeaderName::from_static).to_vec();
    let mut cases = 0;
    for order in orders {
        for upper in [false, true] {
            let spelt = order.map(|at| match upper {
                true => names[at].to_uppercase(),
                false => names[at].to_owned(),
            });
            for separator in separators {
                for split in 0..=3 {
                    let (first, second) = spelt.split_at(split);
                    let lines = [first.join(separator), second.join(separator)];
                    let fields = headers(&[("vary", &lines[0]), ("vary", &lines[1])]);
                    let found = parse_vary(&fields);
                    assert_eq!(found, Vary::Fields(expected.clone().into()), "{lines:?}");
                    let invalid = headers(&[
                        ("vary", &lines[0]),
                        ("vary", "not a name"),
                        ("vary", &lines[1]),
                    ]);
                    assert_eq!(parse_vary(&invalid), Vary::Invalid, "{lines:?}");
                    cases += 2;
                }
            }
        }
    }
    assert!(cases >= 480, "{cases}");
    // A thousand names are unusable, with and without a star among them.
    for position in (0..=1000).step_by(50) {
        let mut many: Vec<_> = (0..1000).map(|n| format!("x{n}")).collect();
        let fields = headers(&[("vary", &many.join(","))]);
        assert_eq!(parse_vary(&fields), Vary::Invalid);
        many.insert(position, "*".into());
        let fields = headers(&[("vary", &many.join(","))]);
        assert!(!matches!(parse_vary(&fields), Vary::Fields(_) | Vary::None));
    }
}

/// RFC 9111, section 4.1, of every pair of requests: they select the same variant exactly if
/// the table gives them the same number.
#[test]
fn two_requests_select_the_same_variant_only_if_they_mean_the_same() {
    type Table<'a> = &'a [(&'a [&'a str], usize)];
    let plain: Table<'_> = &[
        (&[], 0),
        (&[""], 1),
        (&["a"], 2),
        (&[" a\t"], 2),
        (&["b"], 3),
        (&["a", "b"], 4),
        (&["a, b"], 4),
        (&["a, b "], 4),
        (&["a\t,b "], 16),
        (&["a,b"], 17),
        (&["b", "a"], 5),
        (&["a", "a"], 6),
        (&["A"], 7),
        (&["a b"], 8),
        (&["a  b"], 9),
        (&["\"a, b\""], 10),
        (&["\"a,b\""], 11),
        (&["\u{fc}"], 12),
        (&["\"a\\\", b\""], 13),
        (&["\"a\\\",b\""], 14),
        (&["\"a\" , b"], 15),
        (&["\"a\",b"], 18),
    ];
    let credentials: Table<'_> = &[
        (&[], 0),
        (&[""], 1),
        (&["a=1"], 2),
        (&[" a=1 "], 2),
        (&["a=1, b"], 3),
        (&["a=1,b"], 4),
        (&["a=1 , b"], 5),
        (&["A=1"], 6),
        (&["a=1; b=2"], 7),
        (&["a=1;b=2"], 8),
    ];
    let codings: Table<'_> = &[
        (&[], 0),
        (&[""], 1),
        (&["identity"], 1),
        (&["gzip;q=0"], 1),
        (&["gzip"], 2),
        (&["GZIP"], 2),
        (&["x-gzip;q=0.001"], 2),
        (&["gzip , identity;q=0.5"], 2),
        (&["gzip", "br;q=0"], 2),
        (&["br, gzip"], 3),
        (&["gzip, br"], 3),
        (&["gzip", "br"], 3),
        (&["br,br,gzip"], 3),
        (&["br;q=1.0,gzip;q=0.8"], 3),
        (&["br"], 4),
        (&["*"], 5),
        (&["gzip, *"], 5),
        (&["gzip;q=0, *"], 6),
        (&["identity;q=0"], 7),
        (&["*;q=0"], 7),
        (&["gzip, identity;q=0"], 8),
        (&["gzip, *;q=0"], 8),
        (&["a, b, c, d, e, f, g, h"], 9),
        (&["h, g, f, e, d, c, b, a, a"], 9),
        (&["compress"], 10),
        (&["x-compress"], 10),
        (&["zstd"], 11),
        // Unparsable: each stands for itself.
        (&["gzip;q=2"], 12),
        (&["gzip;q=1.001"], 13),
        (&["gzip;q=0.1234"], 14),
        (&["gzip;q"], 15),
        (&["gzip;q=.5"], 16),
        (&["gzip;x=1"], 17),
        (&["gzip br"], 18),
        (&["gzip;q=0, gzip"], 19),
        (&["gzip;q=1;q=1"], 20),
        (&[";q=1"], 21),
        (&["gzip;q=0.5a"], 22),
    ];
    let mut cases = 0;
    for (name, table) in [
        ("x", plain),
        ("x-forwarded-for", plain),
        ("cookie", credentials),
        ("authorization", credentials),
        ("accept-encoding", codings),
    ] {
        let name = HeaderName::from_static(name);
        let values = table.iter().map(|(lines, class)| {
            let mut fields: Vec<_> = lines.iter().map(|line| (name.as_str(), *line)).collect();
            // What else the request says does not matter.
            let other = [("accept-encoding", "gzip"), ("accept", "a")];
            fields.extend(other.iter().filter(|(other, _)| name != *other));
            let mut value = Vec::new();
            variant_value(&name, &headers(&fields), &mut value);
            (lines, class, value)
        });
        let values: Vec<_> = values.collect();
        for (one, one_class, one_value) in &values {
            for (other, other_class, other_value) in &values {
                let same = one_class == other_class;
                assert_eq!(one_value == other_value, same, "{one:?} {other:?}");
                cases += 1;
            }
        }
    }
    assert!(cases >= 2612, "{cases}");
}

/// Directives of which any number may stand together, and none speaks for a cookie.
fn permissive_lines() -> impl Iterator<Item = String> {
    const DIRECTIVES: [&str; 6] = [
        "public",
        "s-maxage=60",
        "must-revalidate",
        "immutable",
        "stale-while-revalidate=5",
        "must-understand",
    ];
    (0..1_u32 << DIRECTIVES.len()).map(|bits| {
        let chosen = (0..DIRECTIVES.len()).filter(|bit| bits & (1 << bit) != 0);
        let chosen = chosen.map(|bit| DIRECTIVES[bit]);
        let all: Vec<_> = std::iter::once("max-age=60").chain(chosen).collect();
        all.join(", ")
    })
}

const COOKIES: [Lines<'_>; 5] = [
    &[("set-cookie", "a=b")],
    &[("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")],
    &[("set-cookie2", "a=b")],
    &[("set-cookie", "")],
    &[("connection", "set-cookie"), ("set-cookie", "a=b")],
];

/// RFC 9111, section 7.3, and where this cache is stricter.
#[test]
fn no_directive_makes_a_set_cookie_shared() {
    let mut cases = 0;
    for line in permissive_lines() {
        for cookies in COOKIES {
            for options in [None, Some(CacheOptions::new().max_age(5).public())] {
                let mut case = Case::new(&[cookies, &[("cache-control", &line)]].concat());
                case.options = options;
                assert_eq!(case.admit(), Err(Reason::SetCookie), "{line} {cookies:?}");
                case.rules.set_cookie = SetCookieRule::StoreAndStrip;
                let stored = case.admit().unwrap().lines.to_map(0);
                let kept = ["set-cookie", "set-cookie2"].map(|name| stored.contains_key(name));
                assert_eq!(kept, [false, false], "{line} {cookies:?}");
                cases += 2;
            }
        }
    }
    assert!(cases >= 1280, "{cases}");
}

/// The cookie of a 304 is for the client that it answers.
#[test]
fn no_directive_makes_the_set_cookie_of_a_304_stored() {
    let mut cases = 0;
    for line in permissive_lines() {
        for cookies in COOKIES {
            let stored = headers(&[("etag", "\"a\""), ("cache-control", "max-age=1")]);
            let mut case = Case::new(&[cookies, &[("cache-control", &line)]].concat()).status(304);
            for rule in [SetCookieRule::Refuse, SetCookieRule::StoreAndStrip] {
                case.rules.set_cookie = rule;
                let freshened =
                    case.with(|exchange| freshen(StatusCode::OK, &stored, exchange, &case.rules));
                let Freshened::Updated(admitted) = freshened else {
                    panic!("{line} {cookies:?}: {freshened:?}");
                };
                for name in ["set-cookie", "set-cookie2"] {
                    assert!(
                        !admitted.lines.to_map(0).contains_key(name),
                        "{line} {cookies:?}"
                    );
                }
                cases += 1;
            }
        }
    }
    assert!(cases >= 640, "{cases}");
}

/// RFC 9110, section 14.1.2, in 128-bit arithmetic, at the borders of the numbers that fit.
#[test]
fn ranges_at_the_borders_of_arithmetic_are_what_a_wider_model_says() {
    const TWO_64: u128 = 1 << 64;
    let positions = [
        0,
        1,
        2,
        9,
        10,
        11,
        (1 << 31) - 1,
        1 << 31,
        1 << 32,
        (1 << 63) - 1,
        1 << 63,
        TWO_64 - 2,
        TWO_64 - 1,
        TWO_64,
        TWO_64 + 1,
        TWO_64 * 1000,
    ];
    let lengths = [1, 2, 10, 1 << 31, 1 << 32, (1 << 63) - 1, u64::MAX];
    let mut cases = 0;
    let mut check = |spec: String, len: u64, expected: Option<(u128, u128)>| {
        let request = headers(&[("range", &format!("bytes={spec}"))]);
        let found = resolve(&request, StatusCode::OK, &HeaderMap::new(), len, NOW);
        let expected = expected.map_or(RangeAnswer::Unsatisfiable, |(start, end)| {
            RangeAnswer::Part {
                start: start.try_into().unwrap(),
                end_inclusive: end.try_into().unwrap(),
            }
        });
        assert_eq!(found, expected, "{spec} of {len}");
        cases += 1;
    };
    for len in lengths {
        let wide = u128::from(len);
        for first in positions {
            let within = first < wide;
            check(
                format!("{first}-"),
                len,
                within.then_some((first, wide - 1)),
            );
            let suffix = (first > 0).then(|| (wide.saturating_sub(first), wide - 1));
            check(format!("-{first}"), len, suffix);
            for last in positions.into_iter().filter(|last| *last >= first) {
                let part = within.then_some((first, last.min(wide - 1)));
                check(format!("{first}-{last}"), len, part);
            }
        }
    }
    assert!(cases >= 1176, "{cases}");
}
