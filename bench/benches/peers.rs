//! One app in one process: bare, behind this crate, behind others. Everything is in memory.

use tower_response_cache_bench::apps::{
    Headers, behind_copies, behind_nothing, by_hand, ours, plain,
};
use tower_response_cache_bench::ask::{Ask, exchange};
use tower_response_cache_bench::peers;
use tower_response_cache_bench::rounds::Table;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for size in [1024, 16 * 1024] {
        same_headers(size).await;
        let mut table = Table::default();
        let get = table.add(
            "plain handler, GET",
            plain(size, Headers::Answered),
            Ask::Get,
            0,
        );
        table.add(
            "plain handler, GET, its map cloned rather than merged",
            by_hand(size),
            Ask::Get,
            get,
        );
        table.add("hit", ours(size), Ask::Get, get);
        table.add("hit, HEAD", ours(size), Ask::Head, get);
        table.add("hit, 304", ours(size), Ask::IfNoneMatch, get);
        table.add(
            "axum-response-cache 0.5, hit",
            peers::axum_response_cache(size),
            Ask::Get,
            get,
        );
        table.add(
            "tower-http-cache 0.6, hit",
            peers::tower_http_cache(size),
            Ask::Get,
            get,
        );
        table.add("hitbox-tower 0.2, hit", peers::hitbox(size), Ask::Get, get);
        table.add(
            "http-cache-tower-server 0.2, hit",
            peers::http_cache_tower_server(size),
            Ask::Get,
            get,
        );
        let unique = Headers::Handler;
        let unique = table.add(
            "plain handler, unique URLs",
            plain(size, unique),
            Ask::Unique,
            table.len(),
        );
        table.add("miss, stored", ours(size), Ask::Unique, unique);
        table.add(
            "a layer that does nothing, unique URLs",
            behind_nothing(size),
            Ask::Unique,
            unique,
        );
        table.add(
            "a layer that keeps copies and does nothing else, unique URLs",
            behind_copies(size),
            Ask::Unique,
            unique,
        );
        let secret = table.add(
            "plain handler, no-store",
            plain(size, Headers::Handler),
            Ask::NoStore,
            table.len(),
        );
        table.add("no-store, passed", ours(size), Ask::NoStore, secret);
        let post = table.add(
            "plain handler, POST",
            plain(size, Headers::Handler),
            Ask::Post,
            table.len(),
        );
        table.add("POST, passed", ours(size), Ask::Post, post);
        let options = table.add(
            "plain handler, OPTIONS",
            plain(size, Headers::Handler),
            Ask::Options,
            table.len(),
        );
        table.add("OPTIONS, passed", ours(size), Ask::Options, options);
        table.add(
            "a layer that does nothing, OPTIONS",
            behind_nothing(size),
            Ask::Options,
            options,
        );
        table.run().await;
        table.print(&format!("in process, {} KiB", size / 1024));
    }
}

/// The comparison is fair only if the plain handler sends what a hit does.
async fn same_headers(size: usize) {
    let names = async |mut app: axum::Router| {
        exchange(&mut app, Ask::Get.request(0)).await;
        let Ok(response) = tower::Service::call(&mut app, Ask::Get.request(0)).await;
        let mut names: Vec<_> = response.headers().keys().map(ToString::to_string).collect();
        names.sort();
        names
    };
    let plain = names(plain(size, Headers::Answered)).await;
    assert_eq!(
        plain,
        names(ours(size)).await,
        "the plain handler's fields are a hit's"
    );
}
