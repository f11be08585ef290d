//! The functions behind the targets of `fuzz/`. Each takes any bytes, reads them as its input, and
//! panics if a rule does not hold. A test runs them over the corpora with the stable compiler.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "to panic is how these report"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AGE, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, DATE, ETAG, HOST, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
    SET_COOKIE, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use twox_hash::XxHash3_64;

use crate::base::clock::Timestamp;
use crate::base::position::{LogPosition, Moment};
use crate::entry::codec::{Format, Undecodable, VERSION, decode, encode};
use crate::entry::{Entry, Head, Record, StoredHeaders, Verified, sendable_length};
use crate::key::{Key, KeyBuilder, KeyRules};
use crate::semantics::conditional::if_range_passes;
use crate::semantics::fields::is_hop_by_hop;
use crate::semantics::syntax::dates::{date_value, format_date, parse_date};
use crate::semantics::syntax::directives::{Qualified, ResponseDirectives};
use crate::semantics::syntax::seconds::Delta;
use crate::semantics::syntax::targeted;
use crate::semantics::syntax::tokens::trim_ows;
use crate::semantics::vary::{Vary, parse_vary};
use crate::semantics::{
    Admitted, CookieRule, Exchange, Flags, Freshened, HeadOutcome, Lifetimes, Precondition,
    RangeAnswer, RequestFacts, Reuse, SetCookieRule, StorageRules, admit, content_range, evaluate,
    freshen, head_updates, invalidated, invalidated_groups, make_conditional, may_serve_on_error,
    not_modified_headers, resolve, reuse, unsatisfied_range,
};

/// Lines of `Cache-Control`.
pub fn directives(data: &[u8]) {
    let lines: Vec<HeaderValue> = Text(data).values().collect();
    let read = |lines: &[HeaderValue]| ResponseDirectives::read(&of_one(&CACHE_CONTROL, lines));
    let all = read(&lines);
    let backwards: Vec<HeaderValue> = lines.iter().rev().cloned().collect();
    let (there, back) = (facts(&lines), facts(&backwards));
    assert_eq!(there, back);
    assert_eq!(by_names(read(&backwards)), by_names(all.clone()));
    for line in &lines {
        let alone = read(std::slice::from_ref(line));
        assert!(forbids_what_it_says(line.as_bytes(), &alone));
        let quoted = line.as_bytes().contains(&b'"');
        assert!(quoted || permits_only_what_it_says(line.as_bytes(), &alone));
        is_as_strict(&all, &alone);
        if says(line.as_bytes(), "no-store") {
            assert!(there.directives.no_store);
        }
        if says(line.as_bytes(), "only-if-cached") {
            assert!(there.directives.only_if_cached);
        }
    }
    // Two lines are as one, unless the first one's quoted string goes on into the second.
    if let [first, second] = &*lines
        && !read(std::slice::from_ref(first)).malformed
    {
        let joined = [first.as_bytes(), second.as_bytes()].join(&b',');
        let joined = HeaderValue::from_bytes(&joined).unwrap();
        assert_eq!(by_names(read(&[joined])), by_names(all));
    }
    targeted_directives(lines);
}

fn targeted_directives(mut lines: Vec<HeaderValue>) {
    let name = HeaderName::from_static("cdn-cache-control");
    let read = |lines: &[HeaderValue]| {
        targeted::select(&of_one(&name, lines), std::slice::from_ref(&name))
    };
    let found = read(&lines);
    if let [line] = &*lines {
        let (directives, _is_targeted) = &found;
        assert!(line != "no-store" || directives.no_store);
        assert!(line != "private" || directives.private == Qualified::Whole);
    }
    lines.push(HeaderValue::from_static(""));
    assert_eq!(read(&lines), found, "an empty line says nothing");
}

/// A moment, and a date to read at it.
pub fn dates(data: &[u8]) {
    let mut text = Text(data);
    let now = Timestamp::from_millis(text.number().min(LATEST_NOW));
    let second = Timestamp::from_secs(now.as_millis() / 1000);
    let written = format_date(now).expect("no year has more than four digits");
    assert_eq!(parse_date(written.as_bytes(), now), Some(second));
    assert_eq!(date_value(now).expect("as above"), written);

    let date = text.0;
    if HeaderValue::from_bytes(date).is_err() {
        return;
    }
    let read = parse_date(date, now);
    assert_eq!(parse_date(&date.to_ascii_lowercase(), now), read);
    assert_eq!(parse_date(&[b" \t", date, b"\t "].concat(), now), read);
    let two_digit_year = date.contains(&b'-');
    if let Some(moment) = read {
        // A leap second at the end of 9999 has no form.
        if let Some(written) = format_date(moment) {
            assert_eq!(parse_date(written.as_bytes(), now), Some(moment));
        }
        if two_digit_year {
            assert!(moment.since(now) <= 51 * YEAR && now.since(moment) <= 51 * YEAR);
        }
    }
    // What a strict parser takes, this one takes.
    if let Some(strict) = strict_date(date)
        && !two_digit_year
    {
        assert_eq!(read, Some(strict));
    }
}

fn strict_date(date: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(date)
        .ok()
        .filter(|text| text.is_ascii())?;
    let moment = httpdate::parse_http_date(text).ok()?;
    Some(Timestamp::from_system_time(moment))
}

/// The names of a `Vary`, and two requests.
pub fn keys(data: &[u8]) {
    let mut text = Text(data);
    let vary = HeaderValue::from_bytes(text.line());
    let names = match vary.map(|line| parse_vary(&of_one(&VARY, &[line]))) {
        Ok(Vary::Fields(names)) => names,
        _ => Arc::default(),
    };
    let (Some(one), Some(other)) = (text.request(), text.request()) else {
        return;
    };
    for rules in [KeyRules::default(), key_rules()] {
        let keys = (key_of(&one, &names, &rules), key_of(&other, &names, &rules));
        let ((Some(one_key), one_variant), (Some(other_key), other_variant)) = keys else {
            continue;
        };
        let seen = |parts| as_handlers_see(parts, &rules);
        if one_key == other_key {
            assert_eq!(seen(&one), seen(&other));
            assert_eq!(one_key.hash(), other_key.hash());
        }
        if one_variant == other_variant {
            assert_eq!(one_key, other_key);
            for name in &*names {
                assert!(selects_alike(name, &one.headers, &other.headers), "{name}");
            }
        }
    }
}

/// The base key, if there is one, and the variant's.
fn key_of(parts: &Parts, names: &[HeaderName], rules: &KeyRules) -> (Option<Key>, Option<Key>) {
    let Ok(mut builder) = KeyBuilder::of_request(parts, rules, 0) else {
        return (None, None);
    };
    let base = builder.base().to_key();
    let target = base.target().expect("a response has a target");
    assert_eq!(target.path, parts.uri.path().as_bytes());
    assert_eq!(target.query, parts.uri.query().map(str::as_bytes));
    assert_eq!(Key::from_canonical(base.canonical()), base);
    let variant = base.variant(names, &parts.headers);
    assert_eq!(builder.vary(names, &parts.headers), variant.canonical());
    assert!(variant.canonical().starts_with(base.canonical()));
    assert_eq!(variant == base, names.is_empty());
    (Some(base), Some(variant))
}

/// A record without its preamble, which is written before it; and a record as it is.
pub fn codec(data: &[u8]) {
    let asked = asked();
    let _whatever = decode(&Bytes::copy_from_slice(data), &asked, FORMAT);
    let Ok(record) = sealed_record(data) else {
        return;
    };
    assert_eq!(*record.key(), asked);
    if let Record::Response(entry) = &record {
        assert!(entry.body.len() as u64 <= FORMAT.longest);
        assert!(entry.head.headers.ready().contains_key(AGE));
    }
    let written = encode(&record, FORMAT);
    let read = decode(&written, &asked, FORMAT).expect("what was written is read");
    assert_eq!(format!("{read:?}"), format!("{record:?}"));
    assert_eq!(encode(&read, FORMAT), written);
    let other = decode(&written, &Key::of_value("fuzzing", "other"), FORMAT);
    assert_eq!(other.err(), Some(Undecodable::OtherKey));
    let place = data.iter().map(|&byte| usize::from(byte)).sum::<usize>();
    let mut damaged = written.to_vec();
    damaged[place % written.len()] ^= 1 << (place % 8);
    assert!(decode(&damaged.into(), &asked, FORMAT).is_err());
    let cut = written.slice(..place % written.len());
    assert!(decode(&cut, &asked, FORMAT).is_err());
}

/// The record that bytes are once the right preamble stands before them.
fn sealed_record(data: &[u8]) -> Result<Record, Undecodable> {
    let mut sealed = b"trc".to_vec();
    sealed.push(VERSION);
    sealed.extend_from_slice(&XxHash3_64::oneshot(data).to_le_bytes());
    sealed.extend_from_slice(data);
    decode(&sealed.into(), &asked(), FORMAT)
}

/// The key of every record that the target of the codec reads.
fn asked() -> Key {
    Key::of_value("fuzzing", "key")
}

/// A length, the fields of a request, and those of a stored response.
pub fn ranges(data: &[u8]) {
    let mut text = Text(data);
    let length = text.number();
    let (request, stored) = (text.fields(), text.fields());
    let asked = only_line(&request, &RANGE);
    let passes = length > 0 && if_range_passes(&request, &stored, NOW);
    let wanted = asked
        .filter(|_| passes)
        .and_then(|line| range(line, length));
    let answer = resolve(&request, StatusCode::OK, &stored, length, NOW);
    assert_eq!(answer, wanted.unwrap_or(RangeAnswer::Whole));
    if let RangeAnswer::Part {
        start,
        end_inclusive,
    } = answer
    {
        assert!(start <= end_inclusive && end_inclusive < length);
        let told = content_range(start, end_inclusive, length);
        assert_eq!(told, format!("bytes {start}-{end_inclusive}/{length}"));
    }
    assert_eq!(unsatisfied_range(length), format!("bytes */{length}"));
    let error = resolve(&request, StatusCode::NOT_FOUND, &stored, length, NOW);
    assert_eq!(error, RangeAnswer::Whole);
    if_range_needs_a_strong_validator(&request, &stored);
    not_modified_needs_a_reason(&request, &stored);
}

fn if_range_needs_a_strong_validator(request: &HeaderMap, stored: &HeaderMap) {
    let Some(line) = request.get(IF_RANGE) else {
        assert!(if_range_passes(request, stored, NOW));
        return;
    };
    if if_range_passes(request, stored, NOW) {
        let given = trim_ows(line.as_bytes());
        let etag = stored.get(ETAG).map(|etag| trim_ows(etag.as_bytes()));
        let dated = [LAST_MODIFIED, DATE]
            .iter()
            .all(|name| stored.contains_key(name));
        assert!(!given.starts_with(b"W/"));
        assert!(etag == Some(given) || (!given.starts_with(b"\"") && dated));
    }
}

fn not_modified_needs_a_reason(request: &HeaderMap, stored: &HeaderMap) {
    let answer = evaluate(request, StatusCode::OK, stored, &lifetimes_at(NOW));
    if answer == Precondition::NotModified && request.contains_key(IF_NONE_MATCH) {
        let tag = stored.get(ETAG).map(|tag| trim_ows(tag.as_bytes()));
        let opaque = tag.map(|tag| tag.strip_prefix(b"W/").unwrap_or(tag));
        let opaque = opaque.filter(|tag| !tag.is_empty());
        let named = |line: &HeaderValue| {
            let line = trim_ows(line.as_bytes());
            line == b"*" || opaque.is_some_and(|tag| line.windows(tag.len()).any(|it| it == tag))
        };
        assert!(request.get_all(IF_NONE_MATCH).iter().any(named));
    } else if answer == Precondition::NotModified {
        assert!(request.contains_key(IF_MODIFIED_SINCE));
    }
    let sent = not_modified_headers(stored);
    for gone in [
        CONTENT_LENGTH,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        CONTENT_RANGE,
        SET_COOKIE,
    ] {
        assert!(!sent.contains_key(gone));
    }
    assert!(sent.iter().all(|line| is_among(stored, line)));
}

/// Settings, a status and a delay; a request and its response; what comes later: how much, another
/// request, and what the handler says to a validation.
pub fn exchanges(data: &[u8]) {
    let mut text = Text(data);
    let rules = storage_rules(text.line());
    let status = u16::try_from(text.number() % 1000).ok();
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let delay = Duration::from_secs(text.number() % 1000);
    let (request, response) = (text.fields(), text.fields());
    let later = NOW.saturating_add(Duration::from_secs(text.number() % (1 << 33)));
    let (next_request, validation) = (text.fields(), text.fields());
    let facts = RequestFacts::read(&Method::GET, &request);
    let status = status.unwrap_or(StatusCode::OK);
    let exchange = Exchange {
        request_time: NOW.saturating_sub(delay),
        ..exchange(&facts, status, &response)
    };
    invalidates_its_own_origin(status, &response);
    let Ok(admitted) = admit(&exchange, &rules) else {
        return;
    };
    assert!(may_be_stored(&exchange, &request, &rules));
    is_sound(&exchange, &admitted, &rules);
    comes_back_from_the_store(status, &admitted);
    let next = RequestFacts::read(&Method::GET, &next_request);
    let moments = [NOW, later].map(|moment| moment.saturating_add(Duration::from_millis(1)));
    only_ages(&next, &admitted.lifetimes, &rules, &moments);
    validates(
        &exchange,
        &admitted,
        &rules,
        (&next_request, &validation, later),
    );
}

/// What a handler answers at once.
fn exchange<'a>(
    facts: &'a RequestFacts,
    status: StatusCode,
    headers: &'a HeaderMap,
) -> Exchange<'a> {
    Exchange {
        facts,
        status,
        headers,
        options: None,
        request_time: NOW,
        response_time: NOW,
    }
}

fn invalidates_its_own_origin(status: StatusCode, response: &HeaderMap) {
    let target = Uri::from_static("https://a.example/b/c?d");
    for uri in invalidated(&Method::POST, status, &target, response) {
        assert_eq!(uri.authority(), target.authority());
        assert_eq!(uri.scheme(), target.scheme());
        assert!(uri.path().starts_with('/'));
    }
    let _whatever = invalidated_groups(response);
}

/// Whether nothing that is spelt plainly forbids it.
fn may_be_stored(exchange: &Exchange<'_>, request: &HeaderMap, rules: &StorageRules) -> bool {
    let response = exchange.headers;
    let targeted = response.contains_key("cdn-cache-control");
    let anywhere = |name: &HeaderName, directive| {
        response
            .get_all(name)
            .iter()
            .any(|line| says(line.as_bytes(), directive))
    };
    let understands = || {
        let lines = response.get_all(CACHE_CONTROL).iter();
        lines
            .map(HeaderValue::as_bytes)
            .any(|line| contains(line, b"must-understand"))
    };
    let asked = |directive| {
        let lines = request.get_all(CACHE_CONTROL).iter();
        lines
            .map(HeaderValue::as_bytes)
            .any(|line| says(line, directive))
    };
    let forbidden = !targeted
        && (anywhere(&CACHE_CONTROL, "private")
            || (anywhere(&CACHE_CONTROL, "no-store") && !understands()));
    // A directive that names it has it left out.
    let left_out = response
        .iter()
        .filter(|(name, _)| name.as_str().ends_with("cache-control"))
        .any(|(_, line)| contains(line.as_bytes(), b"set-cookie"));
    let sets_cookie =
        response.contains_key(SET_COOKIE) && rules.set_cookie == SetCookieRule::Refuse && !left_out;
    let varies_on_anything = members(response, &VARY).any(|member| member.contains(&b'*'));
    !(forbidden || asked("no-store") || sets_cookie || varies_on_anything)
}

/// The rules that hold for every stored response.
fn is_sound(exchange: &Exchange<'_>, admitted: &Admitted, rules: &StorageRules) {
    let Lifetimes {
        born,
        stored,
        fresh_until,
        swr_until,
        sie_until,
        kept_until,
        flags,
    } = admitted.lifetimes;
    assert!(born <= stored && born <= fresh_until && stored < kept_until);
    assert!(fresh_until <= swr_until && fresh_until <= sie_until);
    assert!(fresh_until.since(born) <= rules.max_ttl);
    if flags.intersects(Flags::MUST_REVALIDATE.with(Flags::NO_CACHE)) {
        assert!(swr_until == fresh_until && sie_until == fresh_until);
    }
    let shared = Flags::CREDENTIALS_OK;
    if exchange.facts.authorization {
        assert!(flags.intersects(shared.with(Flags::AUTHORIZATION_OK)));
    }
    if exchange.facts.cookie && rules.cookies == CookieRule::AsCredentials {
        assert!(flags.contains(shared));
    }
    let fields = admitted.lines.to_map(0);
    for (name, value) in &fields {
        assert!(!is_hop_by_hop(name), "{name}");
        assert!(
            *name == DATE || is_among(exchange.headers, (name, value)),
            "{name}"
        );
    }
    assert!(!fields.contains_key(AGE) && !fields.contains_key(SET_COOKIE));
    assert!(fields.contains_key(DATE));
    assert!(admitted.vary.is_sorted_by(|a, b| a.as_str() < b.as_str()));
    for member in members(exchange.headers, &VARY).filter(|member| !member.is_empty()) {
        let named = |name: &HeaderName| name.as_str().as_bytes().eq_ignore_ascii_case(member);
        assert!(admitted.vary.iter().any(named));
    }
}

fn comes_back_from_the_store(status: StatusCode, admitted: &Admitted) {
    let body = Bytes::from_static(b"body");
    let length = sendable_length(status, Some(body.len() as u64));
    let key = Key::of_value("fuzzing", "key");
    let head = Head {
        key: key.clone(),
        status,
        headers: StoredHeaders::new(admitted.lines.clone(), length),
        lifetimes: admitted.lifetimes,
        moment: Moment::stored(LogPosition::new(1, 2)),
        tags: admitted.tags.clone(),
        verified: Verified::never(),
    };
    let record = Record::Response(Arc::new(Entry {
        head,
        body: body.clone(),
    }));
    let read = decode(&encode(&record, FORMAT), &key, FORMAT);
    let Ok(Record::Response(entry)) = read else {
        panic!("{read:?}");
    };
    assert_eq!(entry.head.status, status);
    assert_eq!(entry.head.lifetimes, admitted.lifetimes);
    assert!(entry.head.headers.lines() == &admitted.lines);
    assert!(entry.head.tags == admitted.tags && entry.body == body);
}

/// As time passes a stored response is of less use for a request, never of more.
pub(crate) fn only_ages(
    request: &RequestFacts,
    lifetimes: &Lifetimes,
    rules: &StorageRules,
    moments: &[Timestamp],
) {
    let use_at = |now: Timestamp| match reuse(request, lifetimes, rules, now) {
        Reuse::Fresh => 0,
        Reuse::StaleAllowed => 1,
        Reuse::StaleWhileRevalidate => 2,
        Reuse::Revalidate(_) | Reuse::NotShared(_) => 3,
        Reuse::Dead => 4,
    };
    let never_stale = Flags::NO_CACHE.with(Flags::MUST_REVALIDATE);
    for &now in moments {
        let used = use_at(now);
        assert!(now < lifetimes.fresh_until || used > 0);
        assert!(used > 2 || !lifetimes.flags.contains(Flags::NO_CACHE));
        assert!(!(1..=2).contains(&used) || !lifetimes.flags.intersects(never_stale));
    }
    for pair in moments.windows(2) {
        let &[now, later] = pair else { continue };
        assert!(now <= later);
        assert!(use_at(now) <= use_at(later));
        let on_error = |now| may_serve_on_error(request, lifetimes, rules, now);
        assert!(on_error(now) >= on_error(later));
        assert!(lifetimes.age(now) <= lifetimes.age(later));
        assert!(lifetimes.remaining(now) >= lifetimes.remaining(later));
    }
}

fn validates(
    exchange: &Exchange<'_>,
    admitted: &Admitted,
    rules: &StorageRules,
    (request, answer, now): (&HeaderMap, &HeaderMap, Timestamp),
) {
    let stored = admitted.lines.to_map(0);
    let mut conditional = request.clone();
    make_conditional(&mut conditional, &stored);
    for gone in [IF_MATCH, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE] {
        assert!(!conditional.contains_key(gone));
    }
    for (sent, kept) in [(IF_NONE_MATCH, ETAG), (IF_MODIFIED_SINCE, LAST_MODIFIED)] {
        assert!(
            conditional
                .get(&sent)
                .is_none_or(|it| stored.get(&kept) == Some(it))
        );
    }
    let facts = RequestFacts::read(&Method::GET, request);
    let validation = |status| Exchange {
        request_time: now,
        response_time: now,
        ..self::exchange(&facts, status, answer)
    };
    match freshen(
        exchange.status,
        &stored,
        &validation(StatusCode::NOT_MODIFIED),
        rules,
    ) {
        Freshened::Updated(updated) => is_an_update(&stored, &updated),
        Freshened::Refused { headers, .. } => {
            assert!(!headers.contains_key(AGE) && same_lines(&headers, &stored, &CONTENT_LENGTH));
        }
        Freshened::Mismatch => {
            assert!(answer.contains_key(ETAG) || answer.contains_key(LAST_MODIFIED));
        }
    }
    let head = head_updates(
        exchange.status,
        &stored,
        4,
        &validation(StatusCode::OK),
        rules,
    );
    if let HeadOutcome::Freshened(updated) = head {
        assert_eq!(exchange.status, StatusCode::OK);
        is_an_update(&stored, &updated);
    }
}

fn is_an_update(stored: &HeaderMap, updated: &Admitted) {
    let fields = updated.lines.to_map(0);
    for name in [
        CONTENT_LENGTH,
        CONTENT_ENCODING,
        CONTENT_RANGE,
        CONTENT_TYPE,
    ] {
        assert!(same_lines(&fields, stored, &name), "{name}");
    }
    assert!(!fields.contains_key(SET_COOKIE) && !fields.contains_key(AGE));
    assert!(updated.lifetimes.kept_until > updated.lifetimes.stored);
}

/// All that a handler can read of what counts, but cookies: of two requests of which it differs
/// the handler's answers may. `Host` and `:authority` stand for each other.
pub(crate) fn as_handlers_see(parts: &Parts, rules: &KeyRules) -> Vec<Vec<u8>> {
    let option = |value: Option<&[u8]>| value.map_or_else(Vec::new, |value| [b"=", value].concat());
    let Parts { uri, headers, .. } = parts;
    let scheme = uri.scheme_str().unwrap_or(rules.scheme.as_str());
    let field = headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = uri.authority().map(|it| it.as_str().as_bytes());
    let mut seen = vec![
        scheme.as_bytes().to_vec(),
        uri.path().into(),
        option(uri.query().map(str::as_bytes)),
        option(field.or(authority)),
        option(authority.or(field)),
    ];
    for name in rules.forwarded.iter().chain(&rules.headers) {
        seen.push(name.as_str().into());
        let lines = headers.get_all(name).iter();
        seen.extend(lines.map(|line| line.as_bytes().to_vec()));
    }
    seen
}

/// Whether RFC 9111, section 4.1, lets a field of two requests select the same variant.
pub(crate) fn selects_alike(name: &HeaderName, one: &HeaderMap, other: &HeaderMap) -> bool {
    let joined = |headers: &HeaderMap| {
        let separator: &[u8] = if *name == COOKIE { b"; " } else { b", " };
        let lines = headers
            .get_all(name)
            .iter()
            .map(|line| trim_ows(line.as_bytes()));
        let lines: Vec<&[u8]> = lines.collect();
        headers.contains_key(name).then(|| lines.join(separator))
    };
    let (one, other) = match (joined(one), joined(other)) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one == other,
    };
    match *name {
        ACCEPT_ENCODING => accept_alike(&one, &other),
        ACCEPT_LANGUAGE => languages(&one) == languages(&other),
        ACCEPT | ACCEPT_CHARSET => squeezed(&one, b",;") == squeezed(&other, b",;"),
        _ => one == other,
    }
}

/// Whether two `Accept-Encoding` accept the same codings of all that either names, and of all
/// that neither does.
fn accept_alike(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (codings(one), codings(other));
    let accepts = |list: &[(Vec<u8>, bool)], coding: &[u8]| {
        let by_name = |name: &[u8]| list.iter().find(|(it, _)| it == name).map(|(_, ok)| *ok);
        let said = by_name(coding).or_else(|| by_name(b"*"));
        said.unwrap_or(coding == b"identity")
    };
    let named = one.iter().chain(&other).map(|(name, _)| name.as_slice());
    named
        .filter(|name| *name != b"*")
        .chain([&b"identity"[..], b"\0unnamed"])
        .all(|coding| accepts(&one, coding) == accepts(&other, coding))
}

/// Names and whether they are accepted.
fn codings(value: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let member = |member: &[u8]| {
        let member = member.to_ascii_lowercase();
        let mut parts = member.split(|&byte| byte == b';').map(trim_ows);
        let name: &[u8] = match parts.next().unwrap_or_default() {
            b"x-gzip" => b"gzip",
            b"x-compress" => b"compress",
            name => name,
        };
        let weight = parts.next().unwrap_or_default();
        let refused = weight.starts_with(b"q=0") && weight[3..].iter().all(|it| b".0".contains(it));
        (name.to_vec(), !refused)
    };
    let members = value.split(|&byte| byte == b',').map(trim_ows);
    members.filter(|it| !it.is_empty()).map(member).collect()
}

fn languages(value: &[u8]) -> Vec<Vec<u8>> {
    let value = squeezed(value, b",;").to_ascii_lowercase();
    let ranges = value
        .split(|&byte| byte == b',')
        .filter(|range| !range.is_empty());
    let mut ranges: Vec<Vec<u8>> = ranges.map(<[u8]>::to_vec).collect();
    ranges.sort();
    ranges
}

/// Without white space beside delimiters and at the ends, quoted strings left alone.
fn squeezed(value: &[u8], delimiters: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(value.len());
    let (mut inside, mut escaped) = (false, false);
    for &byte in value {
        quoted.push(inside);
        let quote = byte == b'"' && !escaped;
        escaped = inside && byte == b'\\' && !escaped;
        inside ^= quote;
    }
    let blank = |at: &usize| !quoted[*at] && matches!(value[*at], b' ' | b'\t');
    let delimits = |at: usize| !quoted[at] && delimiters.contains(&value[at]);
    let beside = |at: usize| {
        let before = (0..at).rev().find(|at| !blank(at));
        let after = (at..value.len()).find(|at| !blank(at));
        before.is_none_or(delimits) || after.is_none_or(delimits)
    };
    let kept = (0..value.len()).filter(|at| !(blank(at) && beside(*at)));
    // Other white space than a space, and more than one, is as good as a space.
    kept.map(|at| if blank(&at) { b' ' } else { value[at] })
        .collect()
}

/// A `Range` of one part, as RFC 9110, section 14.1.2, has it.
fn range(line: &[u8], length: u64) -> Option<RangeAnswer> {
    let text = std::str::from_utf8(trim_ows(line)).ok()?;
    let (unit, set) = text.split_once('=')?;
    let mut specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t']));
    let mut specs = specs.by_ref().filter(|spec| !spec.is_empty());
    let (spec, None) = (specs.next()?, specs.next()) else {
        return None;
    };
    let (first, last) = spec
        .split_once('-')
        .filter(|_| unit.eq_ignore_ascii_case("bytes"))?;
    let number = |digits: &str| {
        let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        decimal.then(|| digits.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (start, end) = match (first, last) {
        ("", last) => match number(last)? {
            0 => return Some(RangeAnswer::Unsatisfiable),
            count => (length.saturating_sub(count), u64::MAX),
        },
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => (number(first)?, number(last)?),
    };
    if start > end {
        return None;
    }
    Some(match start < length {
        true => RangeAnswer::Part {
            start,
            end_inclusive: end.min(length - 1),
        },
        false => RangeAnswer::Unsatisfiable,
    })
}

/// Whether one of a line's elements is a directive, in a line without anything quoted.
fn says(line: &[u8], directive: &str) -> bool {
    !line.contains(&b'"') && elements(line).any(|it| it.eq_ignore_ascii_case(directive.as_bytes()))
}

/// Whether what one line of `Cache-Control` forbids is found in it.
fn forbids_what_it_says(line: &[u8], read: &ResponseDirectives) -> bool {
    let plainly = (read.no_store || !says(line, "no-store"))
        && (read.private == Qualified::Whole || !says(line, "private"))
        && (read.no_cache == Qualified::Whole || !says(line, "no-cache"))
        && (read.must_revalidate || !says(line, "must-revalidate"))
        && (read.proxy_revalidate || !says(line, "proxy-revalidate"));
    let is = |quoted: &[u8]| trim_ows(line).eq_ignore_ascii_case(quoted);
    let in_quotes = (read.no_store || !is(b"\"no-store\""))
        && (read.private == Qualified::Whole || !is(b"\"private\""));
    plainly && in_quotes
}

/// Whether what is found in one line of `Cache-Control` without anything quoted is there.
fn permits_only_what_it_says(line: &[u8], read: &ResponseDirectives) -> bool {
    let said = |name, delta: Delta| {
        let Some(seconds) = delta.seconds() else {
            return true;
        };
        let digits = elements(line).filter_map(|element| argument(element, name));
        digits.into_iter().any(|digits| is_number(digits, seconds))
    };
    (!read.public || says(line, "public"))
        && (!read.permits_authorization || says(line, "must-revalidate"))
        && said("max-age", read.max_age)
        && said("s-maxage", read.s_maxage)
        && said("stale-while-revalidate", read.stale_while_revalidate)
        && said("stale-if-error", read.stale_if_error)
}

fn argument<'a>(element: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (found, rest) = element.split_at_checked(name.len())?;
    let named = found.eq_ignore_ascii_case(name.as_bytes());
    rest.strip_prefix(b"=").filter(|_| named)
}

fn is_number(digits: &[u8], number: u32) -> bool {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    let decimal = !text.is_empty() && digits.iter().all(u8::is_ascii_digit);
    decimal && text.parse().unwrap_or(u32::MAX) == number
}

/// More lines forbid no less.
fn is_as_strict(all: &ResponseDirectives, one: &ResponseDirectives) {
    assert!(all.no_store >= one.no_store && all.malformed >= one.malformed);
    assert!(all.must_revalidate >= one.must_revalidate);
    assert!(all.proxy_revalidate >= one.proxy_revalidate);
    for (all, one) in [(&all.private, &one.private), (&all.no_cache, &one.no_cache)] {
        match (all, one) {
            (Qualified::Whole, _) | (_, Qualified::No) => {}
            (Qualified::Fields(all), Qualified::Fields(one)) => {
                assert!(one.iter().all(|name| all.contains(name)));
            }
            _ => panic!("{all:?} {one:?}"),
        }
    }
    let no_longer = |all: Delta, one: Delta| match one {
        Delta::Absent => true,
        Delta::Invalid => all == Delta::Invalid,
        Delta::Seconds(_) => all != Delta::Absent && all.seconds() <= one.seconds(),
    };
    assert!(no_longer(all.max_age, one.max_age) && no_longer(all.s_maxage, one.s_maxage));
    assert!(no_longer(
        all.stale_while_revalidate,
        one.stale_while_revalidate
    ));
    assert!(no_longer(all.stale_if_error, one.stale_if_error));
}

/// With lists of names in one order.
fn by_names(mut directives: ResponseDirectives) -> ResponseDirectives {
    for qualified in [&mut directives.private, &mut directives.no_cache] {
        if let Qualified::Fields(names) = qualified {
            names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        }
    }
    directives
}

fn facts(lines: &[HeaderValue]) -> RequestFacts {
    RequestFacts::read(&Method::GET, &of_one(&CACHE_CONTROL, lines))
}

fn of_one(name: &HeaderName, lines: &[HeaderValue]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name.clone(), line.clone());
    }
    headers
}

fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b',').map(trim_ows)
}

fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|line| elements(line.as_bytes()))
}

fn only_line<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes())
}

fn same_lines(one: &HeaderMap, other: &HeaderMap, name: &HeaderName) -> bool {
    one.get_all(name).iter().eq(other.get_all(name).iter())
}

fn is_among(headers: &HeaderMap, (name, value): (&HeaderName, &HeaderValue)) -> bool {
    headers.get_all(name).iter().any(|line| line == value)
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.to_ascii_lowercase()
        .windows(part.len())
        .any(|it| it == part)
}

fn lifetimes_at(now: Timestamp) -> Lifetimes {
    Lifetimes {
        born: now,
        stored: now,
        fresh_until: now,
        swr_until: now,
        sie_until: now,
        kept_until: now,
        flags: Flags::default(),
    }
}

/// Each letter switches something on.
fn storage_rules(letters: &[u8]) -> StorageRules {
    let has = |letter| letters.contains(&letter);
    let minute = Duration::from_secs(60);
    StorageRules {
        default_ttl: has(b'd').then_some(minute),
        forced_ttl: has(b'f').then_some(minute),
        heuristic_percent: has(b'h').then_some(10),
        stale_while_revalidate: has(b'w').then_some(minute),
        stale_if_error: has(b'e').then_some(minute),
        client_directives: has(b'c'),
        strip_tags: has(b't'),
        cookies: if has(b'k') {
            CookieRule::Ignore
        } else {
            CookieRule::AsCredentials
        },
        set_cookie: match has(b's') {
            true => SetCookieRule::StoreAndStrip,
            false => SetCookieRule::Refuse,
        },
        ..StorageRules::default()
    }
}

fn key_rules() -> KeyRules {
    KeyRules {
        namespace: "fuzzing".to_owned(),
        headers: vec![ACCEPT_LANGUAGE, HeaderName::from_static("x-tenant")],
        ..KeyRules::default()
    }
}

/// Heads as text: lines, and an empty one after the fields of each.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| byte == b'\n');
        let (line, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        line
    }

    fn values(mut self) -> impl Iterator<Item = HeaderValue> {
        let lines = std::iter::from_fn(move || (!self.0.is_empty()).then(|| self.line()));
        lines.filter_map(|line| HeaderValue::from_bytes(line).ok())
    }

    /// 0 if it is none.
    fn number(&mut self) -> u64 {
        let text = std::str::from_utf8(self.line());
        text.ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Up to an empty line; what is no field is passed over.
    fn fields(&mut self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return fields;
            }
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if let Ok(name) = HeaderName::from_bytes(name)
                && let Ok(value) = HeaderValue::from_bytes(value)
            {
                fields.append(name, value);
            }
        }
    }

    /// A target and fields; `None` if it is no target.
    fn request(&mut self) -> Option<Parts> {
        let uri = Uri::try_from(self.line()).ok()?;
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.uri = uri;
        parts.headers = self.fields();
        Some(parts)
    }
}

const FORMAT: Format = Format {
    prefix: 0,
    longest: 1 << 16,
    #[cfg(feature = "zstd")]
    compress_above: Some(64),
};

/// In 2033; any moment does.
const NOW: Timestamp = Timestamp::from_secs(2_000_000_000);

/// Some time in 9000.
const LATEST_NOW: u64 = 221_845_392_000_000;

const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

#[cfg(test)]
mod seeds;

#[cfg(test)]
mod tests {
    use super::*;

    type Target = fn(&[u8]);

    pub(super) fn corpus(target: &str) -> String {
        format!("{}/fuzz/corpus/{target}.txt", env!("CARGO_MANIFEST_DIR"))
    }

    /// The corpora, one case a line, as `scripts/fuzz` writes them.
    pub(super) fn cases(target: &str) -> Vec<Vec<u8>> {
        let path = corpus(target);
        let text = std::fs::read(path).unwrap();
        let lines = text.split(|&byte| byte == b'\n');
        lines
            .filter(|line| !line.is_empty())
            .map(unescaped)
            .collect()
    }

    /// `\xHH` for what cannot stand in a line, and for the backslash.
    fn unescaped(line: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(line.len());
        let mut rest = line;
        while let [byte, after @ ..] = rest {
            rest = after;
            let escape = after.strip_prefix(b"x").filter(|_| *byte == b'\\');
            match escape.and_then(|after| after.split_at_checked(2)) {
                Some((digits, after)) => {
                    let digits = std::str::from_utf8(digits).unwrap();
                    bytes.push(u8::from_str_radix(digits, 16).unwrap());
                    rest = after;
                }
                None => bytes.push(*byte),
            }
        }
        bytes
    }

    #[test]
    fn what_fuzzing_reached_holds_still() {
        let targets: [(&str, Target); 6] = [
            ("directives", directives),
            ("dates", dates),
            ("keys", keys),
            ("codec", codec),
            ("ranges", ranges),
            ("exchanges", exchanges),
        ];
        for (name, target) in targets {
            let cases = cases(name);
            assert!(cases.len() > 50, "{name}: {}", cases.len());
            for case in cases {
                let shown = case.escape_ascii().to_string();
                let ran = std::panic::catch_unwind(|| target(&case));
                assert!(ran.is_ok(), "{name}: {shown}");
            }
        }
    }
}
