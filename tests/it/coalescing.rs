//! Many requests for the same thing, one call of the handler.
#![allow(clippy::disallowed_methods, reason = "tests start their own tasks")]

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};
use tower_response_cache::{Cache, CacheConfig, CacheLayer, Policy, Purge, TestClock};

use crate::support::eventually;
use crate::support::handler::{
    Answer, Ask, BoxError, Cached, Script, Step, content, fresh, get, get_with, status, with,
};

const PATIENCE: Duration = Duration::from_secs(20);

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn layer() -> CacheLayer {
    CacheLayer::new(CacheConfig::default())
}

/// A layer whose clock the test moves.
fn layer_at(clock: &TestClock) -> CacheLayer {
    CacheLayer::new(CacheConfig::builder().clock(clock.clone()).build().unwrap())
}

/// Field lines.
type Fields = &'static [(&'static str, &'static str)];

fn respond(status: u16, fields: Fields, body: Script) -> Response<Script> {
    let response = Response::builder().status(status);
    let response = fields.iter().fold(response, |response, (name, value)| {
        response.header(*name, *value)
    });
    response.body(body).unwrap()
}

/// Sends them all at once and waits for the answers.
async fn at_once(
    cached: &Cached,
    requests: impl IntoIterator<Item = Ask>,
) -> Vec<Result<(StatusCode, String, String), BoxError>> {
    let mut tasks = JoinSet::new();
    for request in requests {
        let cached = cached.clone();
        tasks.spawn(async move { read(cached.send(request).await?).await });
    }
    tasks.join_all().await
}

async fn read(answer: Answer) -> Result<(StatusCode, String, String), BoxError> {
    let (code, status) = (answer.status(), status(&answer));
    Ok((code, status, content(answer).await?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_cold_requests_call_the_handler_once() {
    for round in 0..20 {
        let cached = Cached::new(&layer(), |_, _| async {
            yield_now().await;
            Ok(fresh(Script::whole("one")))
        });
        let requests = (0..1000).map(|_| get("/"));
        for answer in at_once(&cached, requests).await {
            assert_eq!(answer.unwrap().2, "one");
        }
        assert_eq!(cached.calls(), 1, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn followers_are_told_apart_in_cache_status() {
    let cached = Cached::new(&layer(), |_, _| async {
        sleep(Duration::from_millis(100)).await;
        Ok(fresh(Script::whole("x")))
    });
    let answers = at_once(&cached, (0..10).map(|_| get("/"))).await;
    let collapsed = answers
        .iter()
        .flatten()
        .filter(|answer| answer.1.contains("; collapsed"));
    assert_eq!(collapsed.count(), 9);
}

#[tokio::test(start_paused = true)]
async fn each_variant_is_fetched_once_although_nobody_knew_that_there_are_any() {
    let cached = Cached::new(&layer(), |_, request: Ask| async move {
        sleep(Duration::from_millis(100)).await;
        let language = request.headers()["accept-language"].to_str()?.to_owned();
        let mut response = fresh(Script::whole(language));
        response
            .headers_mut()
            .insert("vary", "accept-language".parse()?);
        Ok(response)
    });
    let requests = (0..300).map(|i| get_with("/", "accept-language", ["de", "en", "fr"][i % 3]));
    let mut tasks = JoinSet::new();
    for request in requests {
        let cached = cached.clone();
        tasks.spawn(async move {
            let wanted = request.headers()["accept-language"]
                .to_str()
                .unwrap()
                .to_owned();
            assert_eq!(
                read(cached.send(request).await.unwrap()).await.unwrap().2,
                wanted
            );
        });
    }
    tasks.join_all().await;
    assert_eq!(cached.calls(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_personal_responses_reach_those_they_are_for() {
    let cached = Cached::new(&layer(), |call, request: Ask| async move {
        yield_now().await;
        let user = request.headers()["cookie"].to_str()?.to_owned();
        let body = match call % 2 {
            0 => Script::whole(user.clone()),
            _ => Script::new([
                Step::Data(user.clone().into()),
                Step::Wait(Duration::from_millis(1)),
            ]),
        };
        let mut response = with(
            [
                "private, max-age=60",
                "no-store",
                "max-age=60",
                "max-age=60, public",
            ][call % 4],
            body,
        );
        if call % 4 == 3 {
            response.headers_mut().insert("set-cookie", user.parse()?);
        }
        Ok(response)
    });
    let mut foreign = 0;
    for wave in 0..10 {
        let mut tasks = JoinSet::new();
        for request in 0..1000 {
            let cached = cached.clone();
            tasks.spawn(async move {
                let user = format!("user={}", (request * 7 + wave) % 200);
                let answer = cached.send(get_with("/me", "cookie", &user)).await.unwrap();
                let cookie = answer.headers().get("set-cookie").cloned();
                cookie.is_some_and(|cookie| cookie != *user)
                    || content(answer).await.unwrap() != user
            });
        }
        foreign += tasks
            .join_all()
            .await
            .into_iter()
            .filter(|foreign| *foreign)
            .count();
    }
    assert_eq!(foreign, 0);
}

#[tokio::test(start_paused = true)]
async fn urls_that_are_known_to_be_uncacheable_do_not_serialise() {
    let one: fn() -> Script = || Script::whole("x");
    let long: fn() -> Script = || Script::whole("0123456789a");
    let of_unknown_length: fn() -> Script = || {
        Script::new([
            Step::Data("012345".into()),
            Step::Wait(Duration::from_millis(1)),
            Step::Data("6789a".into()),
        ])
    };
    let with_trailers: fn() -> Script = || Script::new([Step::Data("x".into()), Step::Trailers]);
    type Case = (&'static str, Fields, fn() -> Script);
    let table: [Case; 13] = [
        ("no-store", &[("cache-control", "no-store")], one),
        ("private", &[("cache-control", "private, max-age=60")], one),
        ("nothing", &[], one),
        ("stale at once", &[("cache-control", "max-age=0")], one),
        ("stale by its age", &[FRESH, ("age", "60")], one),
        ("malformed", &[("cache-control", "max-age=60, a=\"b")], one),
        ("a cookie", &[FRESH, ("set-cookie", "a=b")], one),
        ("vary on all", &[FRESH, ("vary", "*")], one),
        ("too long", &[FRESH], long),
        ("too long after all", &[FRESH], of_unknown_length),
        ("another length", &[FRESH, ("content-length", "2")], one),
        ("trailers", &[FRESH], with_trailers),
        ("refused by the policy", &[FRESH, ("x-refuse", "")], one),
    ];
    let config = CacheConfig::builder().max_body(10).build().unwrap();
    let policy = Policy::builder()
        .store_if(|_, response| !response.headers.contains_key("x-refuse"))
        .build()
        .unwrap();
    for (name, fields, body) in table {
        let layer = CacheLayer::new(config.clone()).policy(policy.clone());
        in_waves(name, &layer, move |_| respond(200, fields, body())).await;
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "what is stored to be validated takes the mark away that says that its URL is not to wait for"]
async fn urls_that_are_validated_each_time_do_not_serialise() {
    let table: [(&str, u16); 6] = [
        ("no-cache", 200),
        ("no-cache", 304),
        ("max-age=0", 200),
        ("max-age=0", 304),
        ("max-age=60, no-cache", 304),
        ("max-age=0, must-revalidate", 304),
    ];
    for (directives, status) in table {
        let name = format!("{directives}, {status}");
        in_waves(&name, &layer(), move |request| {
            let status = match request.headers().contains_key("if-none-match") {
                true => status,
                false => 200,
            };
            let mut response = respond(status, &[("etag", "\"a\"")], Script::whole("x"));
            let directives = directives.parse().unwrap();
            response.headers_mut().insert("cache-control", directives);
            response
        })
        .await;
    }
}

/// One wave of requests after the other, each of which the handler answers after 200 ms. Only in
/// the first does any wait for another.
async fn in_waves(
    name: &str,
    layer: &CacheLayer,
    handler: impl Fn(&Ask) -> Response<Script> + Clone + Send + Sync + 'static,
) {
    let cached = Cached::new(layer, move |_, request| {
        let response = handler(&request);
        async move {
            sleep(Duration::from_millis(200)).await;
            Ok(response)
        }
    });
    for round in 0..5 {
        let began = Instant::now();
        for answer in at_once(&cached, (0..200).map(|_| get("/"))).await {
            assert_eq!(answer.unwrap().0, StatusCode::OK, "{name}");
        }
        let took = began.elapsed();
        let most = if round == 0 { 420 } else { 260 };
        assert!(
            took <= Duration::from_millis(most),
            "{name}, round {round}: {took:?}"
        );
    }
    assert_eq!(cached.calls(), 1000, "{name}");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_can_be_shared_lifts_the_mark() {
    let cached = Cached::new(&layer(), |call, _| async move {
        sleep(Duration::from_millis(10)).await;
        Ok(with(
            ["no-store", "max-age=0, must-revalidate", "max-age=60"][call.min(2)],
            Script::whole("x"),
        ))
    });
    for _ in 0..3 {
        cached.text("/").await;
    }
    let (_, status) = cached.text("/").await;
    assert!(status.contains("; hit"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn anonymous_followers_of_a_leader_with_credentials_share_among_themselves() {
    let cached = Cached::new(&layer(), |_, request: Ask| async move {
        sleep(Duration::from_millis(100)).await;
        let who = request
            .headers()
            .get("cookie")
            .map_or("anyone", |_| "someone");
        Ok(fresh(Script::whole(who)))
    });
    let leader = {
        let cached = cached.clone();
        tokio::spawn(async move { read(cached.send(get_with("/", "cookie", "a=1")).await?).await })
    };
    sleep(Duration::from_millis(10)).await;
    for answer in at_once(&cached, (0..100).map(|_| get("/"))).await {
        assert_eq!(answer.unwrap().2, "anyone");
    }
    assert_eq!(leader.await.unwrap().unwrap().2, "someone");
    assert_eq!(cached.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn followers_of_a_hung_leader_call_the_handler_after_their_wait() {
    let cached = Cached::new(&layer(), |call, _| async move {
        if call == 0 {
            std::future::pending::<()>().await;
        }
        Ok(fresh(Script::whole("x")))
    });
    let hung = {
        let cached = cached.clone();
        tokio::spawn(async move { cached.get("/").await.map(drop) })
    };
    yield_now().await;
    let began = Instant::now();
    at_once(&cached, (0..10).map(|_| get("/"))).await;
    assert_eq!(began.elapsed().as_secs(), 5);
    hung.abort();
}

#[tokio::test(start_paused = true)]
async fn a_leader_past_its_deadline_is_replaced() {
    let clock = TestClock::default();
    let cached = Cached::new(&layer_at(&clock), |call, _| async move {
        if call == 0 {
            std::future::pending::<()>().await;
        }
        Ok(with("no-store", Script::whole("x")))
    });
    let hung = {
        let cached = cached.clone();
        tokio::spawn(async move { cached.get("/").await.map(drop) })
    };
    yield_now().await;
    clock.advance(Duration::from_secs(31));
    let began = Instant::now();
    cached.text("/").await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    hung.abort();
}

#[tokio::test(start_paused = true)]
async fn a_handler_goes_on_for_its_followers_when_the_leaders_client_leaves() {
    let layer = layer();
    let cached = Cached::new(&layer, |_, _| async {
        sleep(Duration::from_millis(100)).await;
        Ok(fresh(Script::new([
            Step::Wait(Duration::from_millis(100)),
            Step::Data("x".into()),
        ])))
    });
    let leader = {
        let cached = cached.clone();
        tokio::spawn(async move { cached.get("/").await.map(drop) })
    };
    sleep(Duration::from_millis(10)).await;
    let followers = {
        let cached = cached.clone();
        tokio::spawn(async move { at_once(&cached, (0..10).map(|_| get("/"))).await })
    };
    sleep(Duration::from_millis(10)).await;
    leader.abort();
    for answer in followers.await.unwrap() {
        assert_eq!(answer.unwrap().2, "x");
    }
    assert_eq!(cached.calls(), 1);
    assert!(format!("{:?}", layer.cache()).contains("flights: 0"));
}

#[tokio::test(start_paused = true)]
async fn followers_compete_again_when_the_leader_fails_or_panics() {
    for failure in ["error", "panic", "body error", "body panic"] {
        let cached = Cached::new(&layer(), move |call, _| async move {
            sleep(Duration::from_millis(100)).await;
            let broken = |step| {
                Ok(fresh(Script::new([
                    Step::Wait(Duration::from_millis(5)),
                    step,
                ])))
            };
            match (call, failure) {
                (0, "error") => Err("the handler failed".into()),
                (0, "panic") => panic!("the handler panicked, as it was told"),
                (0, "body error") => broken(Step::Fail),
                (0, "body panic") => broken(Step::Panic),
                _ => Ok(fresh(Script::whole("x"))),
            }
        });
        let mut tasks = JoinSet::new();
        for _ in 0..100 {
            let cached = cached.clone();
            tasks.spawn(async move { read(cached.get("/").await?).await });
        }
        let mut good = 0;
        while let Some(answer) = tasks.join_next().await {
            if let Ok(Ok((_, _, text))) = answer {
                assert_eq!(text, "x");
                good += 1;
            }
        }
        assert_eq!((good, cached.calls()), (99, 2), "{failure}");
    }
}

/// While its body streams, the flight of a response that was purged by its tag still stands.
#[tokio::test(start_paused = true)]
async fn followers_that_refuse_a_purged_response_share_the_next_one() {
    let layer = layer();
    let cached = Cached::new(&layer, |call, _| async move {
        sleep(Duration::from_millis(100)).await;
        let fields: Fields = &[FRESH, ("cache-tag", "t")];
        let body = match call {
            0 => Script::new([Step::Wait(PATIENCE), Step::Data("old".into())]),
            _ => Script::whole("new"),
        };
        Ok(respond(200, fields, body))
    });
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let cached = cached.clone();
        tasks.spawn(async move { read(cached.get("/").await?).await });
    }
    sleep(Duration::from_millis(50)).await;
    layer.cache().purge(Purge::tag("t")).await.unwrap();
    let answers = tasks.join_all().await;
    let new = answers.iter().flatten().filter(|(.., text)| text == "new");
    assert_eq!((new.count(), cached.calls()), (49, 2));
}

#[tokio::test(start_paused = true)]
async fn conditional_and_range_requests_follow_but_do_not_lead() {
    let cached = Cached::new(&layer(), |_, request: Ask| async move {
        sleep(Duration::from_millis(100)).await;
        assert!(request.headers().get("range").is_none());
        let mut response = fresh(Script::new([
            Step::Wait(Duration::from_millis(1)),
            Step::Data("0123456789".into()),
        ]));
        response.headers_mut().insert("etag", "\"a\"".parse()?);
        Ok(response)
    });
    let answers = {
        let cached = cached.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(10)).await;
            let validator = get_with("/", "if-none-match", "\"a\"");
            at_once(&cached, [validator, get_with("/", "range", "bytes=2-3")]).await
        })
    };
    cached.text("/").await;
    let mut answers: Vec<_> = answers.await.unwrap().into_iter().flatten().collect();
    answers.sort();
    assert_eq!((answers[0].0.as_u16(), answers[0].2.as_str()), (206, "23"));
    assert_eq!((answers[1].0.as_u16(), answers[1].2.as_str()), (304, ""));
    assert_eq!(cached.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_a_purge_gets_nothing_from_before_it() {
    let layer = layer();
    let cached = Cached::new(&layer, |call, _| async move {
        sleep(Duration::from_millis(100)).await;
        Ok(fresh(Script::whole(format!("version {call}"))))
    });
    let before = {
        let cached = cached.clone();
        tokio::spawn(async move { at_once(&cached, (0..10).map(|_| get("/"))).await })
    };
    sleep(Duration::from_millis(50)).await;
    layer.cache().purge(Purge::everything()).await.unwrap();
    for answer in at_once(&cached, (0..10).map(|_| get("/"))).await {
        assert_eq!(answer.unwrap().2, "version 1");
    }
    for answer in before.await.unwrap() {
        answer.unwrap();
    }
    assert_eq!(cached.text("/").await.0, "version 1");
    assert_eq!(cached.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_is_served_while_one_refresher_works() {
    let clock = TestClock::default();
    let cached = Cached::new(&layer_at(&clock), |call, _| async move {
        sleep(Duration::from_millis(100)).await;
        let body = Script::whole(format!("version {call}"));
        Ok(with("max-age=10, stale-while-revalidate=60", body))
    });
    cached.text("/").await;
    clock.advance(Duration::from_secs(11));
    let began = Instant::now();
    for answer in at_once(&cached, (0..100).map(|_| get("/"))).await {
        let (_, status, text) = answer.unwrap();
        assert_eq!(text, "version 0");
        assert!(status.contains("stale-while-revalidate"), "{status}");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    eventually("the refresher is done", PATIENCE, || async {
        cached.text("/").await.0 == "version 1"
    })
    .await;
    assert_eq!(cached.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresher_that_fails_is_not_sent_again_at_once() {
    for failure in ["status", "error", "panic", "body", "hang"] {
        let clock = TestClock::default();
        let cached = Cached::new(&layer_at(&clock), move |call, _| async move {
            match (call, failure) {
                (0, _) => Ok(with(
                    "max-age=1, stale-while-revalidate=600",
                    Script::whole("x"),
                )),
                (_, "status") => Ok(Response::builder().status(503).body(Script::whole(""))?),
                (_, "error") => Err("the handler failed".into()),
                (_, "panic") => panic!("the handler panicked, as it was told"),
                (_, "body") => Ok(fresh(Script::new([
                    Step::Wait(Duration::from_millis(5)),
                    Step::Fail,
                ]))),
                _ => std::future::pending().await,
            }
        });
        cached.text("/").await;
        clock.advance(Duration::from_secs(2));
        for _ in 0..50 {
            assert_eq!(cached.text("/").await.0, "x", "{failure}");
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(cached.calls(), 2, "{failure}");
        sleep(Duration::from_secs(31)).await;
        assert_eq!(cached.text("/").await.0, "x", "{failure}");
        sleep(Duration::from_millis(1)).await;
        assert_eq!(
            cached.calls(),
            2,
            "{failure}: it rests by the cache's clock"
        );
        clock.advance(Duration::from_secs(11));
        cached.text("/").await;
        sleep(Duration::from_millis(1)).await;
        assert_eq!(cached.calls(), 3, "{failure}: and then it is tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_stands_in_for_a_failed_one() {
    for failure in ["status", "error", "hang"] {
        let clock = TestClock::default();
        let cached = Cached::new(&layer_at(&clock), move |call, _| async move {
            match (call, failure) {
                (0, _) => Ok(with("max-age=1, stale-if-error=600", Script::whole("x"))),
                (_, "status") => Ok(Response::builder().status(500).body(Script::whole(""))?),
                (_, "error") => Err("the handler failed".into()),
                _ => std::future::pending().await,
            }
        });
        cached.text("/").await;
        clock.advance(Duration::from_secs(2));
        let began = Instant::now();
        for answer in at_once(&cached, (0..20).map(|_| get("/"))).await {
            let (_, status, text) = answer.unwrap();
            assert_eq!(text, "x");
            assert!(status.contains("stale-if-error"), "{status}");
        }
        assert!(began.elapsed() <= Duration::from_secs(31));
        assert_eq!(cached.calls(), 2, "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn costly_responses_are_refreshed_before_they_expire() {
    let clock = TestClock::default();
    let policy = Policy::builder().early_refresh(2.0).build().unwrap();
    let handler_clock = clock.clone();
    let cached = Cached::new(&layer_at(&clock).policy(policy), move |_, _| {
        handler_clock.advance(Duration::from_secs(5));
        async { Ok(fresh(Script::whole("x"))) }
    });
    cached.text("/").await;
    clock.advance(Duration::from_secs(50));
    // Within seconds of the end each request has a fair chance.
    for _ in 0..200 {
        let (_, status) = cached.text("/").await;
        assert!(status.contains("; hit"), "{status}");
        sleep(Duration::from_millis(1)).await;
        if cached.calls() > 1 {
            return;
        }
    }
    panic!("never refreshed");
}

#[tokio::test]
async fn lifetimes_of_the_policys_own_are_spread() {
    let policy = Policy::builder().default_ttl(Duration::from_secs(10_000));
    let cached = Cached::new(&layer().policy(policy.build().unwrap()), |_, _| async {
        Ok(Response::new(Script::whole("x")))
    });
    let mut lifetimes = Vec::new();
    for i in 0..50 {
        let path = format!("/{i}");
        cached.text(&path).await;
        let (_, status) = cached.text(&path).await;
        let ttl = status
            .split("ttl=")
            .nth(1)
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        lifetimes.push(ttl.parse::<u64>().unwrap());
    }
    assert!(
        lifetimes.iter().all(|ttl| (8999..=10_000).contains(ttl)),
        "{lifetimes:?}"
    );
    lifetimes.sort_unstable();
    lifetimes.dedup();
    assert!(lifetimes.len() > 20);
}

#[tokio::test(start_paused = true)]
async fn too_many_followers_call_the_handler_themselves() {
    let config = CacheConfig::builder().max_followers(10).build().unwrap();
    let cached = Cached::new(&CacheLayer::new(Cache::new(config)), |_, _| async {
        sleep(Duration::from_millis(100)).await;
        Ok(fresh(Script::whole("x")))
    });
    at_once(&cached, (0..100).map(|_| get("/"))).await;
    assert_eq!(cached.calls(), 90);
}

#[tokio::test(start_paused = true)]
async fn no_more_flights_are_begun_than_may_be_and_their_room_is_given_back() {
    let config = CacheConfig::builder().max_flights(3).build().unwrap();
    let layer = CacheLayer::new(Cache::new(config));
    let cached = Cached::new(&layer, |_, _| async {
        sleep(Duration::from_millis(100)).await;
        Ok(fresh(Script::whole("x")))
    });
    let two_of_each = |urls: std::ops::Range<u32>| {
        let twice = urls.flat_map(|url| [url, url]);
        twice.map(|url| get(&format!("/{url}"))).collect::<Vec<_>>()
    };
    for round in 1..=3 {
        // Those from before the purge go on, and count: those that come after it go alone.
        let before = {
            let (cached, requests) = (cached.clone(), two_of_each(0..3));
            tokio::spawn(async move { at_once(&cached, requests).await })
        };
        sleep(Duration::from_millis(50)).await;
        assert_eq!(layer.cache().statistics().flights, 3);
        layer.cache().purge(Purge::everything()).await.unwrap();
        at_once(&cached, two_of_each(0..40)).await;
        before.await.unwrap();
        assert_eq!(layer.cache().statistics().flights, 0);
        assert_eq!(cached.calls(), round * (3 + 3 + 2 * 40), "round {round}");
        layer.cache().purge(Purge::everything()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_follows_needs_nothing_of_the_inner_service() {
    let room = Arc::new(Semaphore::new(1));
    let cached = Cached::new(&layer(), move |_, _| {
        let place = room.clone().try_acquire_owned();
        async move {
            let _place = place?;
            sleep(Duration::from_millis(100)).await;
            Ok(fresh(Script::whole("x")))
        }
    });
    for answer in at_once(&cached, (0..100).map(|_| get("/"))).await {
        assert_eq!(answer.unwrap().2, "x");
    }
}
