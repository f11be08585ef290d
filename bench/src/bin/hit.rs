//! One kind of exchange and nothing else, for an instruction count: `hit KIND N` makes N of them.
//! The difference between two counts, over the difference in N, is the cost of one.
//! `scripts/instructions` does that.

use axum::Router;
use tower_response_cache_bench::apps::{Headers, ours, plain};
use tower_response_cache_bench::ask::{Ask, exchange, served};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_default();
    let calls: usize = arguments
        .next()
        .and_then(|calls| calls.parse().ok())
        .unwrap_or(1000);
    let Some((app, ask)) = exchange_of(&kind) else {
        eprintln!(
            "usage: hit KIND N, where KIND is one of {}",
            KINDS.join(" ")
        );
        std::process::exit(2);
    };
    let mut app = served(app);
    // Stores the response that a HEAD, or a GET with an entity tag, asks for.
    exchange(&mut app, Ask::Get.request(0)).await;
    for number in 0..calls {
        let request = ask.request(number);
        if kind == "request" {
            drop(request);
        } else {
            exchange(&mut app, request).await;
        }
    }
}

fn exchange_of(kind: &str) -> Option<(Router, Ask)> {
    let handler = || plain(KIB, Headers::Handler);
    Some(match kind {
        "request" => (Router::new(), Ask::Get),
        "plain" => (plain(KIB, Headers::Answered), Ask::Get),
        "hit" => (ours(KIB), Ask::Get),
        "head" => (ours(KIB), Ask::Head),
        "304" => (ours(KIB), Ask::IfNoneMatch),
        "plain-post" => (handler(), Ask::Post),
        "post" => (ours(KIB), Ask::Post),
        "plain-options" => (handler(), Ask::Options),
        "options" => (ours(KIB), Ask::Options),
        "plain-no-store" => (handler(), Ask::NoStore),
        "no-store" => (ours(KIB), Ask::NoStore),
        "plain-miss" => (handler(), Ask::Unique),
        "miss" => (ours(KIB), Ask::Unique),
        _ => return None,
    })
}

const KINDS: [&str; 13] = [
    "request",
    "plain",
    "hit",
    "head",
    "304",
    "plain-post",
    "post",
    "plain-options",
    "options",
    "plain-no-store",
    "no-store",
    "plain-miss",
    "miss",
];

const KIB: usize = 1024;
