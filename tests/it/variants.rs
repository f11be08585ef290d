//! The variants of a resource that are kept: how many, and which.

use http::Method;
use tower_response_cache::{CacheConfig, Policy, Purge};

use crate::support::app::{App, response};

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
#[ignore = "variants past their time take the places of new ones for as long as memory has them"]
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
#[ignore = "a variant past its time takes the place of a new one for as long as memory has it"]
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
#[ignore = "purged variants take the places of new ones for as long as memory has them"]
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
#[ignore = "a resource that has as many variants as it may takes no new one"]
async fn the_variant_stored_longest_ago_gives_way() {
    let app = speaking(3);
    for language in ["de", "en", "fr", "es"] {
        ask(&app, "/", language).await;
        app.wait(1);
    }
    let all = ["de", "en", "fr", "es"];
    assert_eq!(kept(&app, "/", &all).await, all[1..]);
}

/// Answers in the language that it is asked for; at most `most` variants of each URL are kept.
fn speaking(most: usize) -> App {
    let config = CacheConfig::builder().max_variants(most);
    App::configured(config, Policy::default(), |request, _| {
        let lines = [("cache-control", "max-age=60"), ("vary", "accept-language")];
        let language = request.headers["accept-language"].to_str().unwrap();
        response(200, &lines, language.to_owned())
    })
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
