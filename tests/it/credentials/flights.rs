//! Requests with credentials beside others that are under way.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};
use tower_response_cache::{
    Cache, CacheConfig, CacheLayer, CookieRule, InProcessStore, Policy, Purge, TokioClock,
};

use crate::support::handler::{
    Ask, BoxError, Cached, Script, Step, content, get, get_with, status, with,
};

fn layer(policy: Policy) -> CacheLayer {
    let config = CacheConfig::builder().clock(TokioClock::default());
    CacheLayer::new(config.build().unwrap()).policy(policy)
}

/// A handler that takes a second, says who asked, and says `control` of it.
fn slow(layer: &CacheLayer, control: &'static str) -> Cached {
    Cached::new(layer, move |_, request: Ask| async move {
        sleep(Duration::from_secs(1)).await;
        Ok(with(control, Script::whole(who(&request))))
    })
}

fn who(request: &Ask) -> String {
    let cookie = request.headers().get("cookie");
    cookie
        .map_or("nobody", |it| it.to_str().unwrap())
        .to_owned()
}

/// Sends a request and lets it get as far as it does without time.
async fn begin(cached: &Cached, request: Ask) -> JoinHandle<(String, String, Duration)> {
    let cached = cached.clone();
    let task = tokio::spawn(async move {
        let began = Instant::now();
        let answer = cached.send(request).await.unwrap();
        let took = began.elapsed();
        let status = status(&answer);
        (content(answer).await.unwrap(), status, took)
    });
    for _ in 0..10 {
        yield_now().await;
    }
    task
}

#[tokio::test(start_paused = true)]
async fn who_passes_by_waits_for_nobody() {
    let cached = slow(&layer(Policy::default()), "max-age=60");
    cached.text("/").await;
    sleep(Duration::from_secs(60)).await;
    let anonymous = begin(&cached, get("/")).await;
    sleep(Duration::from_millis(900)).await;
    // It is refreshed meanwhile; what is stored has ended, and is of nobody with credentials.
    let alice = begin(&cached, get_with("/", "cookie", "alice")).await;
    assert_eq!(anonymous.await.unwrap().0, "nobody");
    let (body, status, took) = alice.await.unwrap();
    assert_eq!(body, "alice", "{status}");
    assert!(took <= Duration::from_millis(1100), "{took:?}");
    assert!(cached.text("/").await.1.contains("; hit"));
}

/// The head says whether it is to be shared, and the body may take its time.
#[tokio::test(start_paused = true)]
async fn a_follower_with_credentials_goes_on_when_the_head_permits_nothing() {
    for (control, is_shared) in [("max-age=60", false), ("public, max-age=60", true)] {
        let cached = Cached::new(
            &layer(Policy::default()),
            move |_, request: Ask| async move {
                sleep(Duration::from_secs(1)).await;
                let steps = [
                    Step::Data(who(&request).into()),
                    Step::Wait(Duration::from_secs(100)),
                ];
                let body = Script::new(steps).of_known_length();
                Ok(with(control, body))
            },
        );
        let leader = begin(&cached, get("/")).await;
        let alice = begin(&cached, get_with("/", "cookie", "alice")).await;
        let (body, _, took) = alice.await.unwrap();
        let expected = if is_shared { "nobody" } else { "alice" };
        assert_eq!(body, expected, "{control}");
        assert!(is_shared || took == Duration::from_secs(2), "{took:?}");
        assert_eq!(leader.await.unwrap().0, "nobody");
        assert_eq!(cached.calls(), if is_shared { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd_with_cookies_fetches_once_what_permits_sharing() {
    let cached = slow(&layer(Policy::default()), "public, max-age=60");
    let mut crowd = Vec::new();
    for user in 0..50 {
        let ask = get_with("/", "cookie", &format!("sid={user}"));
        crowd.push(begin(&cached, ask).await);
    }
    for task in crowd {
        task.await.unwrap();
    }
    assert_eq!(cached.calls(), 1);
}

/// Cookies that do not count make no marks for those who have them.
#[tokio::test(start_paused = true)]
async fn ignored_cookies_do_not_keep_others_from_sharing() {
    let policy = Policy::builder()
        .cookies(CookieRule::Ignore)
        .build()
        .unwrap();
    let cached = Cached::new(&layer(policy), |_, request: Ask| async move {
        sleep(Duration::from_secs(1)).await;
        let control = match request.headers().contains_key("authorization") {
            true => "max-age=60",
            false => "public, max-age=60",
        };
        Ok(with(control, Script::whole("page")))
    });
    begin(&cached, get_with("/", "authorization", "x"))
        .await
        .await
        .unwrap();
    let first = begin(&cached, get_with("/", "cookie", "a=1")).await;
    let second = begin(&cached, get_with("/", "cookie", "a=2")).await;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(cached.calls(), 2, "{} and {}", first.1, second.1);
}

/// Two instances, in virtual time.
fn instances() -> [CacheLayer; 2] {
    let store = InProcessStore::new();
    [(); 2].map(|()| {
        let config = CacheConfig::builder().clock(TokioClock::default());
        let cache = Cache::with_store(config.build().unwrap(), Arc::new(store.instance()));
        CacheLayer::new(cache)
    })
}

/// What another instance has stored is judged as what is in memory.
#[tokio::test(start_paused = true)]
async fn the_rule_holds_for_what_another_instance_has_stored() {
    for (control, is_shared) in [("max-age=60", false), ("public, max-age=60", true)] {
        let [one, other] = instances();
        let (one, other) = (slow(&one, control), slow(&other, control));
        one.text("/").await;
        sleep(Duration::from_secs(2)).await;
        // The first look-up of an instance may come before it has read the log.
        other.text("/elsewhere").await;
        sleep(Duration::from_secs(2)).await;
        for _ in 0..2 {
            let ask = get_with("/", "cookie", "alice");
            let (body, status, _) = begin(&other, ask).await.await.unwrap();
            assert_eq!(body == "nobody", is_shared, "{control}: {status}");
        }
        assert!(other.text("/").await.1.contains("; hit"));
    }
}

/// The refresh that somebody with credentials began came to nothing: others may refresh at once.
#[tokio::test(start_paused = true)]
async fn a_refresh_refused_for_its_credentials_holds_no_other_back() {
    let layer = layer(Policy::default());
    let cached = Cached::new(&layer, |call, request: Ask| async move {
        let control = if call == 0 {
            "public, max-age=60"
        } else {
            "max-age=60"
        };
        Ok::<Response<Script>, BoxError>(with(
            control,
            Script::whole(format!("{call} {}", who(&request))),
        ))
    });
    cached.text("/").await;
    layer
        .cache()
        .purge(Purge::everything().soft())
        .await
        .unwrap();
    let alice = begin(&cached, get_with("/", "cookie", "alice")).await;
    assert_eq!(
        alice.await.unwrap().0,
        "0 nobody",
        "stale, and refreshed in vain"
    );
    assert_eq!(cached.calls(), 2);
    assert_eq!(begin(&cached, get("/")).await.await.unwrap().0, "0 nobody");
    assert_eq!(cached.calls(), 3, "refreshed for all");
    assert_eq!(cached.text("/").await.0, "2 nobody");
}
