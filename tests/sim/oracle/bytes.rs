//! Checks that every client gets a whole response that the handler made for such a client.

use super::{Case, Served, first_byte};
use crate::content::content;
use crate::fields::{etag, size};
use crate::finding::{Because, Finding, Kind};
use crate::step::{Asks, By, Cc, Check, Cond, End, Get, How, Length, Range, Vary};
use crate::trace::{BodyEnd, Call, Exchange, Outcome};

pub fn judge(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for (id, exchange, get) in case.gets() {
        match case.served_to(id, exchange, get) {
            Some(served) => {
                judge_content(case, &served, findings);
                judge_fields(case, &served, findings);
                judge_requester(case, &served, findings);
                judge_permission(case, &served, findings);
                judge_policy(case, &served, findings);
            }
            None => judge_own_answer(case, id, exchange, findings),
        }
    }
}

/// An answer that no call of the handler has to do with.
fn judge_own_answer(case: &Case<'_>, id: usize, exchange: &Exchange, findings: &mut Vec<Finding>) {
    let crate::trace::Asked::Get(get) = &exchange.asked else {
        return;
    };
    match &exchange.outcome {
        Outcome::Response(seen) => {
            let is_fine = match seen.status {
                504 => get.asks == Asks::OnlyIfCached,
                416 => get.range == Range::Beyond,
                _ => false,
            };
            if !is_fine {
                findings.push(Finding::new(
                    Kind::InventedError,
                    [],
                    format!("request {id} got {} of nobody's making", seen.status),
                ));
            }
        }
        Outcome::Error(call) if case.call(*call).exchange != id => findings.push(Finding::new(
            Kind::InventedError,
            [],
            format!("request {id} got the error of call {call}, which was not its own"),
        )),
        _ => {}
    }
}

fn judge_content(case: &Case<'_>, served: &Served<'_>, findings: &mut Vec<Finding>) {
    let Served {
        id,
        get,
        seen,
        made,
        ..
    } = *served;
    let call = case.call(made);
    let mut wrong = |kind, message: String| {
        findings.push(Finding::new(
            kind,
            why_wrong(case, served),
            format!("request {id}: {message}"),
        ));
    };
    if call.r != get.r {
        return wrong(
            Kind::WrongBytes,
            format!("it asked for r{} and got r{}", get.r, call.r),
        );
    }
    let whole = content(
        made,
        call.facts.fact(call.mode.depends_on()),
        size(&call.mode),
    );
    let body = match seen.status {
        304 => &[][..],
        _ if get.head => &[][..],
        206 => {
            let start = first_byte(seen);
            whole
                .get(start..(start + 80).min(whole.len()))
                .unwrap_or_default()
        }
        416 => return,
        _ => &whole,
    };
    let is_prefix = body.starts_with(&seen.body);
    if !is_prefix {
        return wrong(
            Kind::WrongBytes,
            "its body is not what the handler made".to_owned(),
        );
    }
    match seen.end {
        BodyEnd::Clean if seen.body.len() != body.len() => {
            let (got, due) = (seen.body.len(), body.len());
            wrong(
                Kind::Truncated,
                format!("{got} of {due} bytes, and a clean end"),
            );
        }
        BodyEnd::Clean
            if call.mode.end == End::Broken
                && call.r == get.r
                && !get.head
                && seen.status == 200 =>
        {
            wrong(
                Kind::WrongBytes,
                "a body that broke came to a clean end".to_owned(),
            );
        }
        BodyEnd::Broken if call.mode.end != End::Broken => {
            wrong(
                Kind::BodyBroken,
                "its body broke, and the handler's did not".to_owned(),
            );
        }
        _ => {}
    }
    if seen.status == 206 && get.range == Range::None {
        wrong(Kind::WrongBytes, "a part that nobody asked for".to_owned());
    }
    if seen.status == 304 && get.cond == Cond::None {
        wrong(Kind::WrongBytes, "304 without a condition".to_owned());
    }
}

fn why_wrong(case: &Case<'_>, served: &Served<'_>) -> Vec<Because> {
    let mode = &case.call(served.made).mode;
    let mut because = Vec::new();
    if mode.end == End::Broken {
        because.push(Because::BrokenBody);
    }
    if mode.length == Length::Unknown {
        because.push(Because::UnknownLength);
    }
    because
}

/// What the fields say agrees with the content, and nothing is replayed that was for one client.
fn judge_fields(case: &Case<'_>, served: &Served<'_>, findings: &mut Vec<Finding>) {
    let Served {
        id,
        get,
        seen,
        by,
        made,
        ..
    } = *served;
    let (call, last) = (case.call(made), case.call(by));
    let text = |name: &str| seen.headers.get(name).and_then(|value| value.to_str().ok());
    let mut disagree = |message: String| {
        let message = format!("request {id}: {message}");
        findings.push(Finding::new(Kind::HeadersDisagree, [], message));
    };
    if matches!(seen.status, 200 | 206)
        && !(get.head && by == made)
        && let Some(kind) = text("content-type").filter(|kind| *kind != "text/page")
    {
        disagree(format!("a page is said to be {kind}"));
    }
    if served.has_body()
        && call.mode.check == Check::Strong
        && last.mode.check == Check::Strong
        && matches!(seen.status, 200 | 206)
        && let Some(tag) = text("etag")
    {
        let own = etag(call.r, call.version, &call.mode, &call.facts);
        if tag != own {
            disagree(format!("the tag of {own} is said to be {tag}"));
        }
    }
    let is_told = served.has_body() || (get.head && !last.is_head && last.status() == Some(200));
    if is_told
        && seen.status == 200
        && let Some(length) = super::number(seen, "content-length")
        && length != size(&call.mode)
    {
        disagree(format!("{length} bytes declared"));
    }
    if seen.status == 304
        && last.exchange != id
        && let (Some(sent), Some(tag)) = (&served.exchange.sent, text("etag"))
        && sent.starts_with(['"', 'W'])
        && sent.trim_start_matches("W/") != tag.trim_start_matches("W/")
    {
        disagree(format!("304 to {sent}, and the tag is {tag}"));
    }
    for name in ["set-cookie", "clear-site-data"] {
        if text(name).is_some() && last.exchange != id {
            let message = format!("request {id} got the {name} of request {}", last.exchange);
            findings.push(Finding::new(Kind::Replayed, [], message));
        }
    }
}

/// The content is for this requester.
fn judge_requester(case: &Case<'_>, served: &Served<'_>, findings: &mut Vec<Finding>) {
    let Served {
        id,
        exchange,
        seen,
        made,
        ..
    } = *served;
    let call = case.call(made);
    let by = call.mode.depends_on();
    if !served.has_body() && seen.status != 304 {
        return;
    }
    let (theirs, own) = (call.facts.fact(by), exchange.facts.fact(by));
    // An update says `public` of what it renews as well.
    let last = case.call(served.by);
    let is_made_public = call.mode.by == By::User && last.mode.cc.permits_sharing();
    if theirs == own || is_made_public || hidden_as_it_may_be(case, served) {
        return;
    }
    findings.push(Finding::new(
        Kind::NotForRequester,
        [],
        format!("request {id} of {own} got what call {made} made for {theirs}"),
    ));
}

/// Who has credentials gets of others, and leaves for others, only what permits sharing.
fn judge_permission(case: &Case<'_>, served: &Served<'_>, findings: &mut Vec<Finding>) {
    let Served {
        id,
        exchange,
        get,
        by,
        made,
        ..
    } = *served;
    let last = case.call(by);
    if last.exchange == id {
        return;
    }
    let asked = [by, made].map(|n| case.trace.exchanges.get(case.call(n).exchange));
    let makers = asked.into_iter().flatten();
    let makers = makers.filter_map(|maker| match &maker.asked {
        crate::trace::Asked::Get(get) => Some((maker, get)),
        crate::trace::Asked::Change(_) => None,
    });
    let forbidden = std::iter::once((exchange, get))
        .chain(makers)
        .any(|(exchange, get)| exchange.credentials && !is_permitted(case, by, get));
    if forbidden {
        let message = format!("request {id} got call {made}, renewed by call {by}");
        findings.push(Finding::new(Kind::NotPermitted, [], message));
    }
}

/// Whether the last call says that the response may be shared, or leaves what was said before.
fn is_permitted(case: &Case<'_>, by: usize, get: &Get) -> bool {
    let permits = |call: &Call| {
        let by_must = call.mode.cc == Cc::Must && get.how == How::Authorization;
        call.mode.cc.permits_sharing() || by_must
    };
    let last = case.call(by);
    let before = || {
        case.trace.calls[..by]
            .iter()
            .filter(|call| call.r == last.r)
    };
    let is_update = last.is_head || last.status() == Some(304);
    let leaves_it = is_update
        && (last.mode.cc == Cc::None || before().any(|call| call.mode.cc == Cc::Targeted));
    permits(last) || (leaves_it && before().any(permits))
}

/// A response that names nothing in `Vary` may be given to all, as long as nobody knows better:
/// no response that does has come by here lately.
fn hidden_as_it_may_be(case: &Case<'_>, served: &Served<'_>) -> bool {
    let call = case.call(served.made);
    if call.mode.vary != Vary::Sometimes || call.facts.fact(call.mode.depends_on()) != "-" {
        return false;
    }
    let began = served.exchange.began;
    // What is for somebody with credentials alone is not kept.
    let may_be_shared = |other: &crate::trace::Call| {
        let maker = case.trace.exchanges.get(other.exchange);
        maker.is_some_and(|it| !it.credentials) || other.mode.cc.permits_sharing()
    };
    let knows_better = |other: &crate::trace::Call| {
        other.r == call.r
            && other.at == served.get.at
            && other.via == served.get.via
            // Each spelling of the host has a key of its own.
            && other.facts.host == call.facts.host
            && other.mode.by == call.mode.by
            && other.facts.fact(call.mode.by) != "-"
            && super::is_ordinary(&other.mode)
            && may_be_shared(other)
            && !other.is_head
            && other.status() == Some(200)
            && other
                .answered_at()
                .is_some_and(|when| when < began && began.ms < when.ms + other.mode.cc.fresh())
    };
    case.world.memory == crate::step::Memory::Small || !case.trace.calls.iter().any(knows_better)
}

/// What the policy forbids to store is not served, and what it hides is not shown.
fn judge_policy(case: &Case<'_>, served: &Served<'_>, findings: &mut Vec<Finding>) {
    let Served { id, seen, by, .. } = *served;
    let is_draft = seen.headers.contains_key("x-draft");
    if case.world.picky && is_draft && case.call(by).exchange != id {
        let message = format!(
            "request {id} got the draft of request {}",
            case.call(by).exchange
        );
        findings.push(Finding::new(Kind::Forbidden, [Because::Draft], message));
    }
    if case.world.strip && seen.headers.contains_key("cache-tag") {
        findings.push(Finding::new(Kind::TagsShown, [], format!("request {id}")));
    }
}
