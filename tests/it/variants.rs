//! How many variants of a resource are kept, and which, and who gets them.

use std::time::Duration;

use http::{HeaderMap, Method};
use tokio::time::sleep;
use tower_response_cache::{CacheConfig, InProcessStore, Policy, Purge};

use crate::support::app::{App, Lines, response};

#[tokio::test]
async fn of_a_resource_no_more_variants_are_kept_than_may_be() {
    for most in 1..=4 {
        let app = speaking(most);
        let languages = [OLD, NEW].concat();
        for path in ["/", "/other"] {
            for language in &languages {
                ask(&app, path, language).await;
            }
        }
        for path in ["/", "/other"] {
            assert_eq!(kept(&app, path, &languages).await.len(), most, "of {path}");
        }
    }
}

#[tokio::test]
async fn a_variant_that_is_stored_again_takes_no_place_of_another() {
    let app = speaking(2);
    for _ in 0..5 {
        for language in ["de", "en"] {
            ask(&app, "/", language).await;
        }
        assert_eq!(kept(&app, "/", &["de", "en"]).await, ["de", "en"]);
        app.wait(LIFETIME);
    }
}

#[tokio::test]
async fn variants_past_their_time_give_way() {
    for most in 1..=4 {
        let app = speaking(most);
        let (old, new) = (&OLD[..most], &NEW[..most]);
        for language in old {
            ask(&app, "/", language).await;
        }
        assert_eq!(kept(&app, "/", old).await, old);
        app.wait(LIFETIME);
        for language in new {
            ask(&app, "/", language).await;
        }
        assert_eq!(kept(&app, "/", new).await, new, "of {most}");
    }
}

#[tokio::test]
async fn only_variants_past_their_time_give_way_while_there_are_any() {
    let app = speaking(3);
    ask(&app, "/", "de").await;
    app.wait(LIFETIME / 2);
    for language in ["en", "fr"] {
        ask(&app, "/", language).await;
    }
    app.wait(LIFETIME / 2);
    ask(&app, "/", "es").await;
    let all = ["de", "en", "fr", "es"];
    assert_eq!(kept(&app, "/", &all).await, all[1..]);
}

#[tokio::test]
async fn purged_variants_give_way() {
    for most in 1..=4 {
        let app = speaking(most);
        for language in &OLD[..most] {
            ask(&app, "/", language).await;
        }
        app.cache.purge(Purge::everything()).await.unwrap();
        let new = &NEW[..most];
        for language in new {
            ask(&app, "/", language).await;
        }
        assert_eq!(kept(&app, "/", new).await, new, "of {most}");
    }
}

#[tokio::test]
async fn the_variant_stored_longest_ago_gives_way() {
    let app = speaking(3);
    for language in ["de", "en", "fr", "es"] {
        ask(&app, "/", language).await;
        app.wait(1);
    }
    let all = ["de", "en", "fr", "es"];
    assert_eq!(kept(&app, "/", &all).await, all[1..]);
}

/// With compression and CORS inside, a 304 of a handler that has a tag names less than its 200.
#[tokio::test]
async fn an_update_without_content_does_not_widen_who_may_get_the_content() {
    const GZIP: Lines<'_> = &[("accept-encoding", "gzip")];
    for less in [&[][..], &[("vary", "origin")], &[("vary", "Accept")]] {
        for method in [Method::GET, Method::HEAD] {
            let app = App::new(move |request, _| {
                let mut lines = vec![("cache-control", "max-age=1"), ("etag", "W/\"a\"")];
                if request.headers.contains_key("if-none-match") || request.method == Method::HEAD {
                    lines.extend(less);
                    let status = if request.method == Method::HEAD {
                        200
                    } else {
                        304
                    };
                    return response(status, &lines, "");
                }
                lines.push(("vary", "accept-encoding"));
                let is_gzip = request.headers.contains_key("accept-encoding");
                response(200, &lines, if is_gzip { "gzip" } else { "plain" })
            });
            assert_eq!(app.get("/", GZIP).await.text(), "gzip");
            app.wait(2);
            app.send(method.clone(), "/", GZIP).await;
            let hit = app.get("/", GZIP).await;
            assert_eq!(
                (hit.text(), hit.is_hit()),
                ("gzip", true),
                "{less:?} {method}"
            );
            assert!(
                hit.headers
                    .get_all("vary")
                    .iter()
                    .any(|it| it == "accept-encoding")
            );
            assert_eq!(app.get("/", &[]).await.text(), "plain", "{less:?} {method}");
        }
    }
}

#[tokio::test]
async fn an_update_without_content_does_not_give_a_users_page_to_another() {
    let app = App::new(|request, _| {
        let mut lines = vec![("cache-control", "public, max-age=1"), ("etag", "\"a\"")];
        if request.headers.contains_key("if-none-match") {
            lines.push(("vary", "accept-encoding"));
            return response(304, &lines, "");
        }
        lines.push(("vary", "cookie"));
        response(
            200,
            &lines,
            request.headers["cookie"].to_str().unwrap().to_owned(),
        )
    });
    for _ in 0..3 {
        for user in ["alice", "bob"] {
            assert_eq!(app.get("/", &[("cookie", user)]).await.text(), user);
        }
        app.wait(2);
    }
}

/// axum calls the empty content of a 304 plain text.
#[tokio::test]
async fn an_update_without_content_does_not_change_how_the_content_is_read() {
    let app = App::new(|request, _| {
        let is_asked = request.headers.contains_key("if-none-match");
        let (status, kind) = if is_asked {
            (304, "text/plain")
        } else {
            (200, "text/html")
        };
        let fresh = ("cache-control", "max-age=1");
        response(
            status,
            &[fresh, ("etag", "\"a\""), ("content-type", kind)],
            "",
        )
    });
    app.get("/", &[]).await;
    app.wait(2);
    for _ in 0..2 {
        assert_eq!(app.get("/", &[]).await.field("content-type"), "text/html");
    }
    assert_eq!(app.calls(), 2);
}

/// RFC 9111 4.1: "Some resources mistakenly omit the Vary header field from their default response
/// … with the effect of choosing it for subsequent requests to that resource even when a preferable
/// response is available."
#[tokio::test]
async fn one_response_without_vary_does_not_hide_the_variants() {
    let app = App::new(|request, _| match request.headers.get("origin") {
        None => response(200, &[("cache-control", "max-age=60")], "none"),
        Some(origin) => {
            let origin = origin.to_str().unwrap();
            let permission = ("access-control-allow-origin", origin);
            let lines = [
                ("cache-control", "max-age=60"),
                ("vary", "origin"),
                permission,
            ];
            response(200, &lines, origin.to_owned())
        }
    });
    for _ in 0..2 {
        for origin in ["a", "b"] {
            let answer = app.get("/", &[("origin", origin)]).await;
            assert_eq!(answer.field("access-control-allow-origin"), origin);
        }
        assert_eq!(app.get("/", &[]).await.text(), "none");
    }
    assert_eq!(app.calls(), 3);
}

#[tokio::test]
async fn a_vary_that_differs_from_response_to_response_makes_few_misses() {
    let app = App::new(|_, number| {
        let names = [
            "accept-language, x-a",
            "accept-language, x-b",
            "x-c, accept-language",
        ];
        let lines = [
            ("cache-control", "max-age=600"),
            ("vary", names[number % 3]),
        ];
        response(200, &lines, "")
    });
    for _ in 0..10 {
        for language in ["de", "en", "fr", "es", "it", "nl"] {
            app.get("/", &[("accept-language", language)]).await;
        }
    }
    // Each once, and once more those that were stored before all names were known.
    assert!(app.calls() <= 8, "{} of 60", app.calls());
}

#[tokio::test]
async fn invented_variants_do_not_lock_the_real_ones_out() {
    for field in [
        "accept-language",
        "origin",
        "accept-encoding",
        "authorization",
    ] {
        let app = App::sending(&[("cache-control", "public, max-age=60"), ("vary", field)]);
        for number in 0..100 {
            app.get("/", &[(field, &format!("junk{number}"))]).await;
        }
        assert!(
            app.get("/", &[(field, "real")]).await.is_stored(),
            "{field}"
        );
        assert!(app.get("/", &[(field, "real")]).await.is_hit(), "{field}");
    }
}

/// `smith , john` is a name like any other to a handler.
#[tokio::test]
async fn white_space_in_a_field_of_unknown_syntax_is_part_of_its_value() {
    let app = App::sending(&[("cache-control", "max-age=60"), ("vary", "x-user")]);
    for user in ["smith , john", "smith,john", "smith, john"] {
        assert!(!app.get("/", &[("x-user", user)]).await.is_hit());
        assert!(app.get("/", &[("x-user", user)]).await.is_hit());
    }
}

#[tokio::test]
async fn one_odd_response_does_not_ruin_a_url_for_ever() {
    let app = App::new(|_, number| {
        let names = if number == 0 {
            "x-request-id"
        } else {
            "accept"
        };
        response(200, &[("cache-control", "max-age=60"), ("vary", names)], "")
    });
    let get = async |id: &str| app.get("/", &[("x-request-id", id)]).await;
    get("a").await;
    assert!(!get("b").await.is_hit(), "the name counts for all");
    app.wait(60 + 300);
    get("c").await;
    assert!(
        get("d").await.is_hit(),
        "no response that named it is kept any more"
    );
}

/// Two instances, each of which has seen other names, come to know all of them.
#[tokio::test(start_paused = true)]
async fn instances_that_know_of_other_names_converge() {
    let store = InProcessStore::new();
    let instance = |name: &'static str| {
        App::sharing(&store, move |_, _| {
            response(
                200,
                &[("cache-control", "max-age=600"), ("vary", name)],
                name,
            )
        })
    };
    let (one, two) = (instance("x-one"), instance("x-two"));
    one.get("/", &[]).await;
    sleep(Duration::from_secs(10)).await;
    two.get("/", &[("x-one", "other")]).await;
    sleep(Duration::from_secs(10)).await;
    // The first instance misses something, and so it reads what the second one knows.
    one.get("/", &[("x-one", "another")]).await;
    sleep(Duration::from_secs(1)).await;
    let others: Lines<'_> = &[("x-one", "3"), ("x-two", "4")];
    assert!(!one.get("/", others).await.is_hit());
    sleep(Duration::from_secs(1)).await;
    assert!(
        two.get("/", others).await.is_hit(),
        "both know of the same names"
    );
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_clock_is_behind_sees_its_own_variants() {
    let store = InProcessStore::new();
    let instance = || {
        App::sharing(&store, |request, _| {
            let lines = [("cache-control", "max-age=20"), ("vary", "accept-language")];
            response(200, &lines, language(&request.headers))
        })
    };
    let (ahead, behind) = (instance(), instance());
    ahead.wait(30);
    for app in [&ahead, &behind] {
        ask(app, "/", "warm").await;
        sleep(Duration::from_secs(10)).await;
    }
    for (app, languages) in [(&ahead, ["de", "en"]), (&behind, ["fr", "es"])] {
        for language in languages {
            ask(app, "/", language).await;
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(kept(app, "/", &languages).await, languages);
    }
    assert_eq!(kept(&behind, "/", &["de", "en"]).await, ["de", "en"]);
}

/// Answers in the language that it is asked for; at most `most` variants of each URL are kept.
fn speaking(most: usize) -> App {
    let config = CacheConfig::builder().max_variants(most);
    App::configured(config, Policy::default(), |request, _| {
        let lines = [("cache-control", "max-age=60"), ("vary", "accept-language")];
        response(200, &lines, language(&request.headers))
    })
}

fn language(request: &HeaderMap) -> String {
    request["accept-language"].to_str().unwrap().to_owned()
}

async fn ask(app: &App, path: &str, language: &str) {
    let answer = app.get(path, &[("accept-language", language)]).await;
    assert_eq!(answer.text(), language);
}

/// Those of `languages` in which `path` is stored. The handler is not asked.
async fn kept<'a>(app: &App, path: &str, languages: &[&'a str]) -> Vec<&'a str> {
    let mut kept = Vec::new();
    for language in languages {
        let only = ("cache-control", "only-if-cached");
        let lines = [("accept-language", *language), only];
        let answer = app.send(Method::GET, path, &lines).await;
        if answer.is_hit() {
            assert_eq!(answer.text(), *language);
            kept.push(*language);
        }
    }
    kept
}

const OLD: [&str; 4] = ["de", "en", "fr", "es"];
const NEW: [&str; 4] = ["it", "nl", "pl", "pt"];

/// Of each response, in seconds.
const LIFETIME: u64 = 60;
