//! Clients get what the handler sent: on a miss, on a hit, and if the request passes by.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request as AxumRequest;
use axum::response::IntoResponse;
use axum::routing::{any, get};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_response_cache::{CacheConfig, CacheLayer};

use crate::support::app::{Answer, App, Lines, feed, frames, headers, request, response};
use crate::support::wire;

/// The same but for the fields that a cache adds.
fn assert_same(one: &Answer, other: &Answer) {
    assert_eq!(one.status, other.status);
    assert_eq!(one.own_lines(), other.own_lines());
    assert_eq!(one.body, other.body);
    assert_eq!(one.trailers, other.trailers);
}

#[tokio::test]
async fn a_hit_is_the_miss_to_the_byte() {
    let mut fields = headers(&[
        ("date", "Wed, 18 May 2033 03:33:20 GMT"),
        ("cache-control", "max-age=60"),
        ("content-type", "text/plain"),
        ("etag", "\"a\""),
        ("x-empty", ""),
        ("x-repeated", "1"),
        ("x-between", "2"),
        ("x-repeated", ""),
        ("x-repeated", "3, 4"),
        ("link", "<a>; rel=\"x, y\""),
        ("link", "<b>"),
        ("content-security-policy", "default-src 'none'"),
        ("content-range", "bytes 0-1/2"),
    ]);
    // RFC 9110 5.5: "obs-text", as old servers send it.
    let obs_text = HeaderValue::from_bytes(b"caf\xe9 \xff\x80\tx").unwrap();
    fields.append("x-obs-text", obs_text);
    for number in 0..300 {
        let name = HeaderName::try_from(format!("x-field-{}", number % 150)).unwrap();
        fields.append(name, HeaderValue::try_from("v".repeat(200)).unwrap());
    }
    let total: usize = fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    assert!(total > 60_000, "{total}");
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let whole = Bytes::from(body);
    let bodies: [Box<dyn Fn(Bytes) -> Body + Send + Sync>; 2] =
        [
            Box::new(Body::from),
            Box::new(|bytes: Bytes| {
                frames((0..bytes.len()).step_by(7000).map(move |start| {
                    Frame::data(bytes.slice(start..bytes.len().min(start + 7000)))
                }))
            }),
        ];
    for body in bodies {
        let (fields, whole) = (fields.clone(), whole.clone());
        let app = App::new(move |_, _| {
            let mut made = Response::new(body(whole.clone()));
            *made.headers_mut() = fields.clone();
            made
        });
        let miss = app.get("/", &[]).await;
        let hit = app.get("/", &[]).await;
        assert!(miss.is_stored() && hit.is_hit());
        assert_eq!(miss.own_lines().len(), 314);
        assert_same(&miss, &hit);
    }
}

/// What a server writes on a connection of its own, byte by byte, to its end.
async fn on_the_wire(server: SocketAddr, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    end.expect("the server closes the connection").unwrap();
    read
}

/// The lines of a head without those that differ by nature, and everything after the head.
fn parted(answer: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
    let (head, rest) = answer.split_at(end.expect("a head"));
    let by_nature = |line: &&[u8]| {
        ["age: ", "date: ", "cache-status: "]
            .iter()
            .any(|name| line.starts_with(name.as_bytes()))
    };
    let lines = head.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    (lines.filter(|line| !by_nature(line)).collect(), rest)
}

const CLOSE: &str = "host: a\r\nte: trailers\r\nconnection: close\r\n\r\n";

/// 300 field lines, repeated ones, empty values, obs-text and 64 KiB of them, on a real socket.
#[tokio::test]
async fn on_the_wire_a_hit_is_the_miss_to_the_byte() {
    let handler = |uri: Uri| async move {
        let mut fields = headers(&[
            ("cache-control", "max-age=60"),
            ("etag", "\"a\""),
            ("x-empty", ""),
            ("x-repeated", "1"),
            ("x-between", "2"),
            ("x-repeated", ""),
            ("x-repeated", "3, 4"),
            ("x-tabs", "a\tb"),
        ]);
        let obs_text = HeaderValue::from_bytes(b"caf\xe9 \xff\x80\tx").unwrap();
        fields.append("x-obs-text", obs_text);
        for number in 0..300 {
            let name = HeaderName::try_from(format!("x-field-{}", number % 150)).unwrap();
            fields.append(name, HeaderValue::try_from("v".repeat(210)).unwrap());
        }
        let whole: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let body = match uri.path() {
            "/whole" => Body::from(whole),
            "/empty" => Body::empty(),
            // Of a length that nobody says beforehand: chunked on the miss, and the length of
            // what was stored on the hit.
            _ => frames(
                whole
                    .chunks(7000)
                    .map(|part| Frame::data(Bytes::copy_from_slice(part))),
            ),
        };
        (fields, body)
    };
    let app = Router::new()
        .fallback(any(handler))
        .layer(CacheLayer::new(CacheConfig::default()));
    let server = wire::serve(app).await;
    for path in ["/whole", "/empty"] {
        let ask = format!("GET {path} HTTP/1.1\r\n{CLOSE}");
        let miss = on_the_wire(server, &ask).await;
        let hit = on_the_wire(server, &ask).await;
        assert!(miss.windows(8).any(|part| part == b"; stored"), "{path}");
        assert!(hit.windows(5).any(|part| part == b"; hit"), "{path}");
        let (lines, content) = parted(&miss);
        assert!(lines.len() > 309, "{path}: {}", lines.len());
        assert!(lines.iter().map(|line| line.len()).sum::<usize>() > 64 * 1024);
        assert_eq!((lines, content), parted(&hit), "{path}");
    }
    let ask = format!("GET /parts HTTP/1.1\r\n{CLOSE}");
    let miss = on_the_wire(server, &ask).await;
    let hit = on_the_wire(server, &ask).await;
    let framing: [&[u8]; 2] = [b"transfer-encoding: chunked", b"content-length: 100000"];
    let own = |answer| {
        let (mut lines, _) = parted(answer);
        lines.retain(|line| !framing.contains(line));
        lines
    };
    assert_eq!(own(&miss), own(&hit));
    assert_eq!(
        parted(&hit)
            .0
            .iter()
            .filter(|line| **line == framing[1])
            .count(),
        1
    );
}

/// What is not to be stored leaves the server as it would without the layer, to the byte.
#[tokio::test]
async fn on_the_wire_what_passes_is_what_the_application_sends_without_the_layer() {
    async fn answer(request: AxumRequest) -> Response<Body> {
        let trailers = headers(&[("grpc-status", "0"), ("grpc-message", "")]);
        let events = ["data: 1\n\n", "data: 2\n\n"].map(|event| Frame::data(event.into()));
        match request.uri().path() {
            "/plain" => response(200, &[("content-type", "text/plain"), ("x-empty", "")], "x"),
            "/private" => response(200, &[("cache-control", "private, max-age=60")], "x"),
            "/cookies" => response(200, &[("set-cookie", "a=1"), ("set-cookie", "b=2")], "x"),
            "/events" => response(
                200,
                &[("content-type", "text/event-stream")],
                frames(events),
            ),
            "/grpc" => {
                let lines = [
                    ("content-type", "application/grpc"),
                    ("trailer", "grpc-status, grpc-message"),
                    ("cache-control", "max-age=60"),
                ];
                let message = Frame::data(Bytes::from_static(b"\0\0\0\0\x01x"));
                response(200, &lines, frames([message, Frame::trailers(trailers)]))
            }
            "/upgrade" => {
                let lines = [("connection", "upgrade"), ("upgrade", "websocket")];
                response(101, &lines, "")
            }
            "/missing" => response(404, &[], "no"),
            "/nothing" => response(204, &[], ""),
            "/part" => response(206, &[("content-range", "bytes 0-0/9")], "x"),
            "/unchanged" => response(304, &[("etag", "\"a\"")], ""),
            "/moved" => response(302, &[("location", "/plain")], ""),
            _ => response(500, &[], "odd"),
        }
    }
    let plain = Router::new().fallback(any(answer));
    let layered = plain.clone().layer(CacheLayer::new(CacheConfig::default()));
    let (plain, layered) = (wire::serve(plain).await, wire::serve(layered).await);
    let paths = [
        "/plain",
        "/private",
        "/cookies",
        "/events",
        "/grpc",
        "/missing",
        "/nothing",
        "/part",
        "/unchanged",
        "/moved",
        "/odd",
    ];
    let mut cases = 0;
    for path in paths {
        for method in ["GET", "HEAD", "POST", "OPTIONS", "DELETE"] {
            for version in ["1.1", "1.0"] {
                for content in ["", "content-length: 2\r\n"] {
                    let body = if content.is_empty() { "" } else { "ab" };
                    let ask = format!("{method} {path} HTTP/{version}\r\n{content}{CLOSE}{body}");
                    let (with, without) = (
                        on_the_wire(layered, &ask).await,
                        on_the_wire(plain, &ask).await,
                    );
                    let shown = String::from_utf8_lossy(&with);
                    assert!(shown.contains("cache-status: "), "{ask}{shown}");
                    assert!(!shown.contains("\r\nage: "), "{ask}{shown}");
                    assert_eq!(parted(&with), parted(&without), "{ask}{shown}");
                    cases += 1;
                }
            }
        }
    }
    assert!(cases >= 220, "{cases}");
    let ask =
        "GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let head = async |server| {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        head
    };
    let (with, without) = (head(layered).await, head(plain).await);
    assert_eq!(parted(&with), parted(&without));
}

#[tokio::test]
async fn every_storable_status_comes_back_as_it_was() {
    for status in (200..600).filter(|status| ![206, 304].contains(status)) {
        let app = App::new(move |_, number| {
            let date = ("date", "Wed, 18 May 2033 03:33:20 GMT");
            let body = if status == 204 {
                String::new()
            } else {
                number.to_string()
            };
            response(status, &[("cache-control", "max-age=60"), date], body)
        });
        let miss = app.get("/", &[]).await;
        let again = app.get("/", &[]).await;
        assert_eq!(miss.is_stored(), again.is_hit(), "{status}");
        if again.is_hit() {
            assert_same(&miss, &again);
        }
    }
}

#[tokio::test]
async fn trailers_are_delivered_and_not_stored() {
    let app = App::new(|_, number| {
        let body = frames([
            Frame::data(Bytes::from(number.to_string())),
            Frame::trailers(headers(&[("x-checksum", "1")])),
        ]);
        response(
            200,
            &[("cache-control", "max-age=60"), ("trailer", "x-checksum")],
            body,
        )
    });
    for expected in ["0", "1", "2"] {
        let answer = app.get("/", &[]).await;
        assert_eq!(answer.text(), expected);
        assert_eq!(answer.trailers, Some(headers(&[("x-checksum", "1")])));
    }
}

/// What is not to be stored differs from the handler's own by the cache's line alone.
#[tokio::test]
async fn what_passes_is_what_the_handler_sent() {
    type Make = fn() -> Response<Body>;
    let table: [(Method, Make); 9] = [
        (Method::GET, || {
            response(200, &[("content-type", "text/plain")], "plain")
        }),
        (Method::GET, || {
            response(200, &[("set-cookie", "a=1"), ("set-cookie", "b=2")], "x")
        }),
        (Method::GET, || {
            response(
                200,
                &[
                    ("cache-control", "no-store"),
                    ("connection", "x"),
                    ("x", "1"),
                ],
                "x",
            )
        }),
        (Method::GET, || {
            let events = ["data: 1\n\n", "data: 2\n\n"].map(|event| Frame::data(event.into()));
            response(
                200,
                &[("content-type", "text/event-stream")],
                frames(events),
            )
        }),
        (Method::POST, || {
            let lines = [("content-type", "application/grpc")];
            let trailers = headers(&[("grpc-status", "0"), ("grpc-message", "")]);
            let body = [
                Frame::data(Bytes::from_static(b"\0\0\0\0\x01x")),
                Frame::trailers(trailers),
            ];
            response(200, &lines, frames(body))
        }),
        // A gRPC error: no content, the status in the head.
        (Method::POST, || {
            response(200, &[("grpc-status", "5")], Body::empty())
        }),
        (Method::OPTIONS, || {
            response(204, &[("allow", "GET")], Body::empty())
        }),
        (Method::DELETE, || response(404, &[("x", "1")], "gone")),
        (Method::GET, || {
            response(206, &[("content-range", "bytes 0-0/9")], "x")
        }),
    ];
    for (method, make) in table {
        let app = App::new(move |_, _| make());
        let with = app.send(method.clone(), "/", &[("te", "trailers")]).await;
        let (head, body) = make().into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned();
        let without = Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        };
        assert_same(&with, &without);
        assert!(!with.is_stored(), "{method}");
        assert!(with.headers.get("age").is_none());
    }
}

#[tokio::test]
async fn the_first_event_of_a_stream_does_not_wait_for_the_last() {
    for control in ["no-cache", "max-age=60"] {
        let (sender, body) = feed();
        let body = std::sync::Mutex::new(Some(body));
        let control = control.to_owned();
        let app = App::new(move |_, _| {
            let lines = [
                ("content-type", "text/event-stream"),
                ("cache-control", &control),
            ];
            response(200, &lines, body.lock().unwrap().take().unwrap())
        });
        let mut stream = app.open(request(Method::GET, "/", &[])).await.into_body();
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            sender.send(Ok(Frame::data(event.into()))).unwrap();
            let frame = stream.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event);
        }
        drop(sender);
        assert!(stream.frame().await.is_none());
    }
}

#[tokio::test]
async fn a_body_error_reaches_the_client_and_nothing_is_stored() {
    let app = App::new(|_, number| {
        let (sender, body) = feed();
        sender
            .send(Ok(Frame::data(Bytes::from(number.to_string()))))
            .unwrap();
        if number == 0 {
            sender.send(Err("broken")).unwrap();
        }
        response(200, &[("cache-control", "max-age=60")], body)
    });
    let broken = app.open(request(Method::GET, "/", &[])).await;
    assert!(broken.into_body().collect().await.is_err());
    assert_eq!(app.get("/", &[]).await.text(), "1");
}

/// An application on a socket that tells what it was asked.
fn told() -> (Router, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let handler = move |method: Method, uri: Uri, request: HeaderMap| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        let host = request.get("host").cloned();
        async move {
            let host = host.as_ref().map_or("", |host| host.to_str().unwrap());
            let text = format!("[{number} {method} {} {host}]", uri.path());
            ([("cache-control", "max-age=60")], text)
        }
    };
    let app = Router::new()
        .fallback(any(handler))
        .layer(CacheLayer::new(CacheConfig::default()));
    (app, calls)
}

#[tokio::test]
async fn http_1_and_http_2_share_their_entries() {
    let (app, calls) = told();
    let server = wire::serve(app).await;
    let second = wire::http2(server, Request::get(format!("http://{server}/a?b"))).await;
    let get = format!("GET /a?b HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n");
    let first = wire::exchange(server, &get).await;
    assert!(first.contains("; hit"), "{first}");
    assert!(first.ends_with(std::str::from_utf8(second.body()).unwrap()));
    let absolute =
        format!("GET http://{server}/a?b HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n");
    assert!(wire::exchange(server, &absolute).await.contains("; hit"));
    let other = "GET /a?b HTTP/1.1\r\nhost: other.example\r\nconnection: close\r\n\r\n";
    assert!(!wire::exchange(server, other).await.contains("; hit"));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

/// RFC 9110 8.6: "A server MUST NOT send Content-Length in such a response unless its field value
/// equals the decimal number of octets that would have been sent in the content of a 200".
#[tokio::test]
async fn no_204_and_no_304_from_the_store_says_that_its_content_has_no_length() {
    let page = || async {
        (
            [("cache-control", "max-age=60"), ("etag", "\"a\"")],
            "content",
        )
    };
    let nothing = || async { (StatusCode::NO_CONTENT, [("cache-control", "max-age=60")]) };
    let app = Router::new()
        .route("/", get(page))
        .route("/nothing", get(nothing))
        .layer(CacheLayer::new(CacheConfig::default()));
    let server = wire::serve(app).await;
    for status in ["fwd=", "hit"] {
        let nothing = wire::http2(server, Request::get(format!("http://{server}/nothing"))).await;
        let said = nothing.headers()["cache-status"].to_str().unwrap();
        assert!(said.contains(status), "{said}");
        // The first is the handler's own, and what the server makes of it.
        if status == "hit" {
            assert_eq!(nothing.headers().get("content-length"), None);
        }
    }
    let ask = || Request::get(format!("http://{server}/"));
    let whole = wire::http2(server, ask()).await;
    assert_eq!(whole.headers()["content-length"], "7");
    let known = wire::http2(server, ask().header("if-none-match", "\"a\"")).await;
    assert_eq!(known.status(), 304);
    assert_eq!(known.headers().get("content-length"), None);
    let known = format!(
        "GET / HTTP/1.1\r\nhost: {server}\r\nif-none-match: \"a\"\r\nconnection: close\r\n\r\n"
    );
    let known = wire::exchange(server, &known).await;
    assert!(known.starts_with("HTTP/1.1 304"), "{known}");
    for framing in ["content-length", "transfer-encoding"] {
        assert!(!known.contains(framing), "{known}");
    }
}

#[tokio::test]
async fn requests_of_two_minds_about_their_host_go_past_the_cache() {
    let (app, _) = told();
    let server = wire::serve(app).await;
    let conflicting = [
        "GET http://a.example/ HTTP/1.1\r\nhost: b.example\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a.example\r\nhost: b.example\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: user@a.example\r\nconnection: close\r\n\r\n",
    ];
    for bytes in conflicting {
        for _ in 0..2 {
            let answer = wire::exchange(server, bytes).await;
            assert!(
                !answer.contains("; stored") && !answer.contains("; hit"),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn a_head_hit_has_the_length_and_no_content_on_the_wire() {
    let (app, _) = told();
    let server = wire::serve(app).await;
    let ask = |method: &str| format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n");
    let close = "GET /end HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let bytes = [ask("GET"), ask("HEAD"), ask("GET"), close.to_owned()].concat();
    let answers = wire::exchange(server, &bytes).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 4, "{answers}");
    assert_eq!(answers.matches("[0 GET / a]").count(), 2);
    assert_eq!(answers.matches("content-length: 11").count(), 3);
}

#[tokio::test]
async fn an_upgrade_passes_and_the_connection_is_the_handlers() {
    async fn upgrade(mut request: AxumRequest) -> impl IntoResponse {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
            let mut word = [0; 4];
            io.read_exact(&mut word).await.unwrap();
            word.reverse();
            io.write_all(&word).await.unwrap();
        });
        let lines: Lines<'_> = &[("connection", "upgrade"), ("upgrade", "websocket")];
        (StatusCode::SWITCHING_PROTOCOLS, headers(lines))
    }
    let app = Router::new()
        .route("/", get(upgrade))
        .layer(CacheLayer::new(CacheConfig::default()));
    let server = wire::serve(app).await;
    let mut stream = TcpStream::connect(server).await.unwrap();
    let ask = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.starts_with("HTTP/1.1 101") && head.contains("detail=upgrade"),
        "{head}"
    );
    stream.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"gnip");
}

/// The layer on a service whose error cannot happen stays one.
#[tokio::test]
async fn the_inner_services_error_is_the_outer_ones() {
    fn infallible<S>(service: S) -> S
    where
        S: tower::Service<http::Request<Body>, Error = Infallible>,
    {
        service
    }
    let inner = tower::service_fn(|_: http::Request<Body>| async {
        Ok::<_, Infallible>(response(200, &[], ""))
    });
    let layer = CacheLayer::new(CacheConfig::default());
    drop(infallible(tower::Layer::layer(&layer, inner)));
}

const PATIENCE: Duration = Duration::from_secs(5);
