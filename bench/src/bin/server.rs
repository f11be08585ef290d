//! The app over HTTP/1.1 on one thread: `server KIND PORT BYTES`, where KIND is
//!
//! - `plain`: a handler that sends what a hit does,
//! - `cached`: a handler behind this crate,
//! - `origin`: a handler for other caches to store.

use axum::serve::ListenerExt;
use tower_response_cache_bench::apps::{Headers, ours, plain};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, port, bytes] = arguments.as_slice() else {
        eprintln!("usage: server plain|cached|origin PORT BYTES");
        std::process::exit(2);
    };
    let bytes = bytes.parse().expect("a number of bytes");
    let app = match kind.as_str() {
        "cached" => ours(bytes),
        "origin" => plain(bytes, Headers::Handler),
        _ => plain(bytes, Headers::Answered),
    };
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let listener = listener.tap_io(|stream| {
        let _slower = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}
