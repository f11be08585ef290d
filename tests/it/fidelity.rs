//! What clients get is what the handler sent: on a miss, on a hit, and past the cache.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request as AxumRequest;
use axum::response::IntoResponse;
use axum::routing::{any, get};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
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
    let second = wire::http2(server, &format!("http://{server}/a?b")).await;
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
