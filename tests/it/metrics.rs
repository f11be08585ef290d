//! The figures that reach the `metrics` facade.

use metrics_exporter_prometheus::PrometheusBuilder;
use tower_response_cache::{CacheConfig, Policy, Purge};

use crate::support::app::App;

/// What a collector gets to see of a cache.
fn rendered(app: &App) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    ::metrics::with_local_recorder(&recorder, || app.cache.record_metrics());
    recorder.handle().render()
}

#[tokio::test]
async fn each_outcome_and_each_reason_is_counted() {
    let app = App::new(|request, _number| match request.uri.path() {
        "/private" => crate::support::app::response(200, &[("cache-control", "private")], "x"),
        _ => crate::support::app::response(200, &[("cache-control", "max-age=60")], "x"),
    });
    for _ in 0..3 {
        app.get("/public", &[]).await;
    }
    app.get("/private", &[]).await;
    app.cache.purge(Purge::tag("t")).await.unwrap();
    let text = rendered(&app);
    for line in [
        r#"response_cache_responses_total{cache="tower-response-cache",outcome="hit"} 2"#,
        r#"response_cache_responses_total{cache="tower-response-cache",outcome="uri-miss"} 2"#,
        r#"response_cache_responses_total{cache="tower-response-cache",outcome="generated"} 0"#,
        r#"response_cache_details_total{cache="tower-response-cache",detail="private"} 1"#,
        r#"response_cache_stored_total{cache="tower-response-cache"} 1"#,
        r#"response_cache_memory_records{cache="tower-response-cache"} 1"#,
        r#"response_cache_purge_selectors{cache="tower-response-cache"} 1"#,
        r#"response_cache_lost_writes_total{cache="tower-response-cache",reason="queue-full"} 0"#,
    ] {
        assert!(text.lines().any(|seen| seen == line), "{line}\n\n{text}");
    }
    // There is no store to tell of.
    assert!(!text.contains("response_cache_store_"), "{text}");
}

#[tokio::test]
async fn no_key_becomes_a_label() {
    let app = App::with(Policy::default(), |_, _| {
        crate::support::app::response(200, &[("cache-control", "max-age=60")], "x")
    });
    let lines = |app: &App| rendered(app).lines().count();
    app.get("/1", &[]).await;
    let before = lines(&app);
    for number in 2..50 {
        app.get(&format!("/{number}"), &[("x-user", &number.to_string())])
            .await;
    }
    assert_eq!(lines(&app), before);
}

#[tokio::test]
async fn the_state_of_the_store_is_one_of_a_few() {
    let server = crate::support::valkey::Valkey::start();
    let config = CacheConfig::builder().url(server.url()).status_name("shop");
    let cache = tower_response_cache::Cache::new(config.build().unwrap());
    cache.ping().await.unwrap();
    let recorder = PrometheusBuilder::new().build_recorder();
    ::metrics::with_local_recorder(&recorder, || cache.record_metrics());
    let text = recorder.handle().render();
    let states = text
        .lines()
        .filter(|line| line.starts_with("response_cache_store_state{"))
        .collect::<Vec<_>>();
    assert_eq!(states.len(), 7, "{text}");
    let ready = r#"response_cache_store_state{cache="shop",state="ready"} 1"#;
    assert!(states.contains(&ready), "{text}");
    assert_eq!(states.iter().filter(|line| line.ends_with(" 1")).count(), 1);
    assert!(
        text.contains(r#"response_cache_store_dials_total{cache="shop"} 1"#),
        "{text}"
    );
}
