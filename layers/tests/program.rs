//! The shop as its clients see it, over connections of their own.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

use axum::http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tower_response_cache::{Cache, CacheConfig};
use tower_response_cache_layers::app;

/// The shop on a port of its own.
#[derive(Clone)]
struct Shop(std::net::SocketAddr);

impl Shop {
    async fn open() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app(Cache::new(CacheConfig::default())).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self(address)
    }

    async fn get(&self, path: &str, fields: &[&str]) -> Answer {
        self.send(Method::GET, path, fields, "").await
    }

    async fn send(&self, method: Method, path: &str, fields: &[&str], content: &str) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: shop.example\r\n");
        let length = format!("content-length: {}", content.len());
        let length = (method != Method::GET).then_some(&*length);
        for field in fields
            .iter()
            .copied()
            .chain(length)
            .chain(["connection: close"])
        {
            request = request + field + "\r\n";
        }
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        stream
            .write_all((request + "\r\n" + content).as_bytes())
            .await
            .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Answer(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The bytes of a response.
#[derive(Debug)]
struct Answer(String);

impl Answer {
    fn status(&self) -> StatusCode {
        self.0[9..12].parse().unwrap()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let head = self.0.split("\r\n\r\n").next().unwrap();
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    fn content(&self) -> &str {
        self.0.split_once("\r\n\r\n").unwrap().1
    }

    fn is_hit(&self) -> bool {
        self.field("cache-status")
            .is_some_and(|status| status.contains("; hit"))
    }
}

#[tokio::test]
async fn a_page_for_all_is_a_hit_for_browsers_with_cookies_too() {
    let shop = Shop::open().await;
    let put = shop.send(Method::POST, "/cart/1", &[], "").await;
    let session = put.field("set-cookie").unwrap().split(';').next().unwrap();
    let session = format!("cookie: {session}");
    assert!(!shop.get("/products/7", &[&session]).await.is_hit());
    for cookie in [&*session, "cookie: seen=1", "x-none: 1"] {
        let answer = shop.get("/products/7", &[cookie]).await;
        assert!(answer.is_hit(), "{answer:?}");
        assert_eq!(answer.field("x-call"), Some("1"));
    }
}

/// Such a response removes the cookie, which is one browser's own.
#[tokio::test]
async fn a_session_that_has_ended_is_not_the_response_of_others() {
    let shop = Shop::open().await;
    let ended = shop.get("/products/7", &["cookie: id=ended"]).await;
    assert!(ended.field("set-cookie").unwrap().contains("Max-Age=0"));
    let next = shop.get("/products/7", &[]).await;
    assert!(!next.is_hit());
    assert_eq!(next.field("set-cookie"), None);
}

#[tokio::test]
async fn each_visitor_has_a_cart_and_a_session() {
    let shop = Shop::open().await;
    let mut cookies = Vec::new();
    for id in [1, 2] {
        let put = shop
            .send(Method::POST, &format!("/cart/{id}"), &[], "")
            .await;
        let cookie = put
            .field("set-cookie")
            .expect("a session begins")
            .to_owned();
        cookies.push(format!("cookie: {}", cookie.split(';').next().unwrap()));
    }
    assert_ne!(cookies[0], cookies[1]);
    for _ in 0..2 {
        for (id, cookie) in [1, 2].iter().zip(&cookies) {
            let answer = shop.get("/cart", &[cookie]).await;
            assert_eq!(answer.content(), format!("[{id}]"));
        }
        assert_eq!(shop.get("/cart", &[]).await.content(), "[]");
    }
}

#[tokio::test]
async fn a_variant_is_compressed_once_and_stored() {
    let shop = Shop::open().await;
    let gzip = ["accept-encoding: gzip"];
    let first = shop.get("/products/7", &gzip).await;
    assert_eq!(first.field("content-encoding"), Some("gzip"));
    let hit = shop.get("/products/7", &gzip).await;
    assert!(hit.is_hit(), "{hit:?}");
    assert_eq!(hit.field("content-encoding"), Some("gzip"));
    let length: u64 = hit.field("content-length").unwrap().parse().unwrap();
    assert!(length < 100, "{length}");
    let plain = shop.get("/products/7", &[]).await;
    assert_eq!(plain.field("content-encoding"), None);
    assert!(plain.content().starts_with("product 7"));
}

#[tokio::test]
async fn each_origin_gets_its_permission_from_one_stored_response() {
    let shop = Shop::open().await;
    for (number, origin) in ["https://a.shop.example", "https://b.shop.example"]
        .iter()
        .enumerate()
    {
        let answer = shop
            .get("/products/7", &[&format!("origin: {origin}")])
            .await;
        assert_eq!(answer.is_hit(), number > 0, "{answer:?}");
        assert_eq!(answer.field("access-control-allow-origin"), Some(*origin));
    }
    let other = shop
        .get("/products/7", &["origin: https://evil.example"])
        .await;
    assert!(other.is_hit());
    assert_eq!(other.field("access-control-allow-origin"), None);
}

#[tokio::test]
async fn reports_are_for_those_who_may_see_them() {
    let shop = Shop::open().await;
    let token = ["authorization: Bearer let-me-in"];
    for number in 0..2 {
        let answer = shop.get("/reports/sales", &token).await;
        assert_eq!(answer.is_hit(), number > 0, "{answer:?}");
        assert_eq!(answer.content(), "a million");
        let refused = shop.get("/reports/sales", &[]).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn each_request_has_its_own_id() {
    let shop = Shop::open().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = shop.get("/products/7", &[]).await;
        ids.push(answer.field("x-request-id").unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn the_routes_with_policies_of_their_own_follow_them() {
    let shop = Shop::open().await;
    for (currency, is_hit) in [("EUR", false), ("USD", false), ("EUR", true), ("USD", true)] {
        let cookies = format!("cookie: id=alice; currency={currency}");
        let answer = shop.get("/prices", &[&cookies]).await;
        assert_eq!(answer.is_hit(), is_hit, "{answer:?}");
        assert_eq!(answer.content(), format!("[\"{currency}\"]"));
    }
    for is_hit in [false, true] {
        let answer = shop.get("/assets/logo", &["cookie: id=alice"]).await;
        assert_eq!(answer.is_hit(), is_hit, "{answer:?}");
        assert_eq!(answer.0.matches("cache-status").count(), 1);
    }
    let put = shop.send(Method::PUT, "/products/7", &[], "").await;
    assert_eq!(put.status(), StatusCode::NO_CONTENT);
    let changed = shop.get("/prices", &["cookie: currency=EUR"]).await;
    assert!(!changed.is_hit(), "{changed:?}");
}

#[tokio::test]
async fn two_hundred_at_once_make_one_call() {
    let shop = Shop::open().await;
    for path in ["/products/9", "/assets/logo"] {
        let mut clients = JoinSet::new();
        for _ in 0..200 {
            let shop = shop.clone();
            clients.spawn(async move { shop.get(path, &[]).await });
        }
        let answers = clients.join_all().await;
        let call = answers[0].field("x-call").unwrap();
        assert!(answers.iter().all(|it| it.field("x-call") == Some(call)));
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let shop = Shop::open().await;
    let long = "x".repeat(100 * 1024);
    let refused = shop.send(Method::POST, "/cart/1", &[], &long).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
