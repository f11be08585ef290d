//! Responses that are recorded while they are served.
#![allow(clippy::disallowed_methods, reason = "tests start their own tasks")]

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tower_response_cache::{CacheConfig, CacheLayer, TestClock};

use crate::support::eventually;
use crate::support::handler::{
    Ask, BoxError, Cached, Script, Step, content, fresh, get, get_with, status, with,
};

const PATIENCE: Duration = Duration::from_secs(600);

fn layer() -> CacheLayer {
    CacheLayer::new(CacheConfig::default())
}

/// Nothing is under way any more: no flight, no memory taken, and no task but `tasks`.
async fn all_is_quiet(layer: &CacheLayer, tasks: usize) {
    eventually("all is quiet", PATIENCE, || async {
        let cache = format!("{:?}", layer.cache());
        cache.contains("flights: 0, fill_bytes: 0")
            && Handle::current().metrics().num_alive_tasks() <= tasks
    })
    .await;
}

fn halves() -> [Step; 3] {
    [
        Step::Data("first ".into()),
        Step::Wait(Duration::from_millis(100)),
        Step::Data("second".into()),
    ]
}

#[tokio::test]
async fn a_body_in_one_frame_costs_no_task_and_no_copy() {
    static BODY: [u8; 4096] = [7; 4096];
    for script in [
        || Script::whole(Bytes::from_static(&BODY)),
        || Script::new([Step::Data(Bytes::from_static(&BODY))]),
    ] {
        let cached = Cached::new(&layer(), move |_, _| async move { Ok(fresh(script())) });
        for _ in 0..3 {
            let mut answer = cached.get("/").await.unwrap();
            assert_eq!(answer.body().size_hint().exact(), Some(4096));
            let frame = answer.body_mut().frame().await.unwrap().unwrap();
            let data = frame.into_data().unwrap();
            assert_eq!(data.as_ptr(), BODY.as_ptr());
            assert!(answer.body().is_end_stream());
            assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
        }
        assert_eq!(cached.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_says_how_much_is_left_at_every_step() {
    let cached = Cached::new(&layer(), |_, _| async {
        Ok(fresh(Script::new(halves()).of_known_length()))
    });
    let mut answers = vec![cached.get("/").await.unwrap()];
    answers.push(cached.get("/").await.unwrap());
    for answer in &mut answers {
        let body = answer.body_mut();
        assert_eq!(body.size_hint().exact(), Some(12));
        assert!(!body.is_end_stream());
        body.frame().await.unwrap().unwrap();
        assert_eq!(body.size_hint().exact(), Some(6));
        assert!(!body.is_end_stream());
    }
    sleep(Duration::from_millis(200)).await;
    for answer in &mut answers {
        let body = answer.body_mut();
        body.frame().await.unwrap().unwrap();
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
    assert_eq!(cached.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_is_not_held_back_while_it_is_recorded() {
    for known in [true, false] {
        let cached = Cached::new(&layer(), move |_, _| async move {
            let script = Script::new(halves());
            Ok(fresh(if known {
                script.of_known_length()
            } else {
                script
            }))
        });
        let began = Instant::now();
        let mut answer = cached.get("/").await.unwrap();
        answer.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_followers_finish_at_the_handlers_speed_whatever_the_leaders_client_does() {
    let config = CacheConfig::builder().max_body(8 << 20).build().unwrap();
    let cached = Cached::new(&CacheLayer::new(config), |_, _| async {
        let piece = Bytes::from(vec![1; 64 << 10]);
        let steps = (0..80).flat_map(move |_| {
            [
                Step::Wait(Duration::from_millis(10)),
                Step::Data(piece.clone()),
            ]
        });
        Ok(fresh(Script::new(steps).of_known_length()))
    });
    let began = Instant::now();
    let slow = {
        let cached = cached.clone();
        tokio::spawn(async move {
            // 1 KiB a second: 64 seconds for each frame of 64 KiB.
            let mut body = cached.get("/").await.unwrap().into_body();
            while let Some(frame) = body.frame().await {
                let length = frame.unwrap().into_data().unwrap().len();
                sleep(Duration::from_secs(length as u64 / 1024)).await;
            }
        })
    };
    yield_now().await;
    let mut followers = JoinSet::new();
    for _ in 0..50 {
        let cached = cached.clone();
        followers.spawn(async move {
            let body = cached.get("/").await.unwrap().into_body();
            body.collect().await.unwrap().to_bytes().len()
        });
    }
    assert!(
        followers
            .join_all()
            .await
            .into_iter()
            .all(|length| length == 5 << 20)
    );
    let took = began.elapsed();
    assert!(took <= Duration::from_millis(850), "{took:?}");
    assert_eq!(cached.calls(), 1);
    slow.await.unwrap();
    assert!(began.elapsed() > Duration::from_secs(5000));
}

#[tokio::test(start_paused = true)]
async fn slow_followers_hold_nobody_up() {
    let layer = layer();
    let cached = Cached::new(&layer, |_, _| async {
        Ok(fresh(Script::new(halves()).of_known_length()))
    });
    let leader = cached.get("/").await.unwrap();
    let idle: Vec<_> = [
        cached.get("/").await.unwrap(),
        cached.get("/").await.unwrap(),
    ]
    .into();
    let began = Instant::now();
    assert_eq!(content(leader).await.unwrap(), "first second");
    assert_eq!(began.elapsed(), Duration::from_millis(100));
    all_is_quiet(&layer, 0).await;
    for follower in idle {
        assert_eq!(content(follower).await.unwrap(), "first second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_is_broken_for_all_and_never_stored() {
    for step in [Step::Fail, Step::Panic] {
        let layer = layer();
        let failing = step.clone();
        let cached = Cached::new(&layer, move |call, _| {
            let mut steps = halves().to_vec();
            if call == 0 {
                steps.insert(2, failing.clone());
            }
            async { Ok(fresh(Script::new(steps).of_known_length())) }
        });
        let leader = cached.get("/").await.unwrap();
        let follower = cached.get("/").await.unwrap();
        let leader = tokio::spawn(content(leader));
        content(follower).await.unwrap_err();
        match step {
            Step::Panic => assert!(leader.await.unwrap_err().is_panic()),
            _ => assert!(leader.await.unwrap().is_err()),
        }
        all_is_quiet(&layer, 0).await;
        assert_eq!(cached.text("/").await.0, "first second");
        assert_eq!(cached.calls(), 2);
        assert!(cached.text("/").await.1.contains("; hit"));
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_arrive_and_what_has_them_is_not_stored() {
    for known in [true, false] {
        let layer = layer();
        let cached = Cached::new(&layer, move |_, _| async move {
            let steps = halves().into_iter().chain([Step::Trailers]);
            let script = Script::new(steps);
            Ok(fresh(if known {
                script.of_known_length()
            } else {
                script
            }))
        });
        let leader = cached.get("/").await.unwrap();
        let mut follower = None;
        if known {
            follower = Some(cached.get("/").await.unwrap());
        }
        let collected = leader.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-checksum"], "1");
        assert_eq!(collected.to_bytes(), "first second");
        if let Some(follower) = follower {
            assert_eq!(content(follower).await.unwrap(), "first second");
        }
        let (_, status) = cached.text("/").await;
        assert!(status.contains("fwd=uri-miss"), "{status}");
        assert_eq!(cached.calls(), 2);
        all_is_quiet(&layer, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_over_the_cap_passes_whole_and_releases_its_followers() {
    let config = CacheConfig::builder().max_body(1000).build().unwrap();
    let layer = CacheLayer::new(config);
    for steps in [
        vec![Step::Data(Bytes::from(vec![b'x'; 1001]))],
        vec![
            Step::Data(Bytes::from(vec![b'x'; 900])),
            Step::Wait(Duration::from_millis(100)),
            Step::Data(Bytes::from(vec![b'x'; 101])),
        ],
    ] {
        let path = format!("/{}", steps.len());
        let cached = Cached::new(&layer, move |_, _| {
            let steps = steps.clone();
            async {
                sleep(Duration::from_millis(10)).await;
                Ok(fresh(Script::new(steps)))
            }
        });
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            let (cached, path) = (cached.clone(), path.clone());
            tasks.spawn(async move { cached.text(&path).await.0.len() });
        }
        let began = Instant::now();
        assert!(
            tasks
                .join_all()
                .await
                .into_iter()
                .all(|length| length == 1001)
        );
        assert!(
            began.elapsed() <= Duration::from_millis(220),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(cached.calls(), 50);
        all_is_quiet(&layer, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_of_its_declared_length_is_not_stored() {
    for declared in ["5", "20", "x"] {
        for steps in [vec![Step::Data("first second".into())], halves().to_vec()] {
            let cached = Cached::new(&layer(), move |_, _| {
                let steps = steps.clone();
                async {
                    let mut response = fresh(Script::new(steps));
                    response
                        .headers_mut()
                        .insert("content-length", declared.parse()?);
                    Ok(response)
                }
            });
            for _ in 0..2 {
                assert_eq!(cached.text("/").await.0, "first second");
            }
            assert_eq!(cached.calls(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_the_memory_for_fills_responses_pass_unstored() {
    const LENGTH: usize = 256 << 10;
    let config = CacheConfig::builder()
        .max_body(LENGTH as u64)
        .fill_bytes(LENGTH as u64);
    let layer = CacheLayer::new(config.build().unwrap());
    for known in [true, false] {
        let cached = Cached::new(&layer, move |_, _| async move {
            let half = Bytes::from(vec![b'x'; LENGTH / 2]);
            let script = Script::new([
                Step::Data(half.clone()),
                Step::Wait(Duration::from_millis(100)),
                Step::Data(half),
            ]);
            Ok(fresh(if known {
                script.of_known_length()
            } else {
                script
            }))
        });
        let mut tasks = JoinSet::new();
        for i in 0..8 {
            let cached = cached.clone();
            tasks.spawn(async move { cached.text(&format!("/{known}/{i}")).await.0.len() });
        }
        assert!(
            tasks
                .join_all()
                .await
                .into_iter()
                .all(|length| length == LENGTH)
        );
        all_is_quiet(&layer, 0).await;
        let mut hits = 0;
        for i in 0..8 {
            let answer = cached.get(&format!("/{known}/{i}")).await.unwrap();
            hits += usize::from(status(&answer).contains("; hit"));
            content(answer).await.unwrap();
        }
        // Those of unknown length may each take a part of what one of them needs.
        assert!(
            (usize::from(known)..=2).contains(&hits),
            "{hits} were stored, known: {known}"
        );
        // No key was marked for that: now that there is room, it is stored.
        assert!(
            cached
                .text(&format!("/{known}/7"))
                .await
                .1
                .contains("; hit")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_body_of_unknown_length_does_not_take_the_memory_of_a_long_one() {
    let config = CacheConfig::builder().max_body(1 << 20).fill_bytes(1 << 20);
    let layer = CacheLayer::new(config.build().unwrap());
    let cached = Cached::new(&layer, |_, _| async { Ok(fresh(Script::new(halves()))) });
    let mut tasks = JoinSet::new();
    for i in 0..16 {
        let cached = cached.clone();
        tasks.spawn(async move { cached.text(&format!("/{i}")).await });
    }
    tasks.join_all().await;
    for i in 0..16 {
        assert!(cached.text(&format!("/{i}")).await.1.contains("; hit"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_is_finished_when_its_client_leaves() {
    let layer = layer();
    let cached = Cached::new(&layer, |_, _| async { Ok(fresh(Script::new(halves()))) });
    drop(cached.get("/").await.unwrap());
    all_is_quiet(&layer, 0).await;
    let (text, status) = cached.text("/").await;
    assert_eq!(text, "first second");
    assert!(status.contains("; hit"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_ends_with_the_deadline_head_and_body_together() {
    let layer = layer();
    for steps in [
        vec![Step::Hang],
        halves().into_iter().chain([Step::Hang]).collect(),
    ] {
        let path = format!("/{}", steps.len());
        let cached = Cached::new(&layer, move |_, _| {
            let steps = steps.clone();
            async {
                sleep(Duration::from_secs(20)).await;
                Ok(fresh(Script::new(steps)))
            }
        });
        let gone = timeout(Duration::from_secs(1), cached.get(&path)).await;
        assert!(gone.is_err());
        let began = Instant::now();
        all_is_quiet(&layer, 0).await;
        let took = began.elapsed().as_secs();
        assert!((29..=30).contains(&took), "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_with_the_runtime_leaves_the_cache_usable() {
    let layer = layer();
    let cached = Cached::new(&layer, |call, _| async move {
        if call == 0 {
            return Ok(fresh(Script::new([Step::Data("x".into()), Step::Hang])));
        }
        Ok(fresh(Script::whole("y")))
    });
    let inner = cached.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let answer = inner.get("/").await.unwrap();
            tokio::spawn(async move { content(answer).await });
            yield_now().await;
        });
        runtime.shutdown_background();
    })
    .join()
    .unwrap();
    eventually("the flight has ended", PATIENCE, || async {
        format!("{:?}", layer.cache()).contains("flights: 0, fill_bytes: 0")
    })
    .await;
    assert_eq!(cached.text("/").await.0, "y");
}

/// Ten thousand fetches whose leaders come to harm, each with followers.
#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_leaders_no_key_is_stuck_and_nothing_is_left() {
    let clock = TestClock::default();
    let config = CacheConfig::builder().clock(clock.clone()).build().unwrap();
    let layer = CacheLayer::new(config);
    let cached = harmed(&layer);
    for round in 0..10_000 {
        if round % KEYS == 0 {
            clock.advance(Duration::from_secs(61));
        }
        let harm = HARMS[fastrand::usize(..HARMS.len())];
        let failures = lead_and_follow(&cached, round % KEYS, harm).await;
        assert!(failures == 0 || !harm.is_empty(), "round {round}");
    }
    nothing_is_left(&layer, &cached, &clock).await;
}

/// The same, many at a time and on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes half a minute"]
async fn nor_is_it_when_they_come_to_harm_together() {
    let clock = TestClock::default();
    let config = CacheConfig::builder()
        .clock(clock.clone())
        .follower_wait(Duration::from_millis(300))
        .fill_deadline(Duration::from_millis(600));
    let layer = CacheLayer::new(config.build().unwrap());
    let cached = harmed(&layer);
    let mut rounds = JoinSet::new();
    for round in 0..10_000 {
        if round % KEYS == 0 {
            clock.advance(Duration::from_secs(61));
        }
        if rounds.len() >= 64 {
            rounds.join_next().await.unwrap().unwrap();
        }
        let cached = cached.clone();
        rounds.spawn(async move {
            let harm = HARMS[fastrand::usize(..HARMS.len())];
            lead_and_follow(&cached, round % KEYS, harm).await
        });
    }
    rounds.join_all().await;
    nothing_is_left(&layer, &cached, &clock).await;
}

const KEYS: usize = 50;

const HARMS: [&str; 9] = [
    "",
    "error",
    "panic",
    "hang",
    "unshared",
    "body-error",
    "body-panic",
    "body-hang",
    "trailers",
];

/// A handler that comes to the harm that its request asks for.
fn harmed(layer: &CacheLayer) -> Cached {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let told = |text: &&str| text.ends_with("as it was told");
        if !info.payload().downcast_ref().is_some_and(told) {
            hook(info);
        }
    }));
    Cached::new(layer, |_, request: Ask| async move {
        let harm = request.headers().get("x-harm");
        let harm = harm.map_or("", |harm| harm.to_str().unwrap()).to_owned();
        sleep(Duration::from_millis(fastrand::u64(0..3))).await;
        match harm.as_str() {
            "error" => return Err::<Response<Script>, BoxError>("it failed".into()),
            "panic" => panic!("the handler panicked, as it was told"),
            "hang" => std::future::pending().await,
            "unshared" => return Ok(with("private", Script::whole("first second"))),
            _ => {}
        }
        let mut steps = halves().to_vec();
        match harm.as_str() {
            "body-error" => steps.insert(2, Step::Fail),
            "body-panic" => steps.insert(2, Step::Panic),
            "body-hang" => steps.insert(2, Step::Hang),
            "trailers" => steps.push(Step::Trailers),
            _ => {}
        }
        let script = Script::new(steps);
        Ok(fresh(if fastrand::bool() {
            script.of_known_length()
        } else {
            script
        }))
    })
}

/// One who comes to harm, and leaves at some time or other; three who follow, of whom some leave.
/// How many of those who stayed did not get the whole.
async fn lead_and_follow(cached: &Cached, key: usize, harm: &'static str) -> usize {
    let path = format!("/{key}");
    let mut tasks = JoinSet::new();
    for follower in 0..4 {
        let request = match follower {
            0 => get_with(&path, "x-harm", harm),
            _ => get(&path),
        };
        let leaves = follower == 0 || fastrand::u8(..4) == 0;
        let patience = match leaves {
            true => Duration::from_millis(fastrand::u64(0..150)),
            false => PATIENCE,
        };
        let cached = cached.clone();
        tasks.spawn(async move {
            let read = async { content(cached.send(request).await?).await };
            match timeout(patience, read).await {
                Ok(Ok(text)) => {
                    assert_eq!(text, "first second");
                    true
                }
                Ok(Err(_)) | Err(_) => leaves,
            }
        });
    }
    let mut failures = 0;
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(good) => failures += usize::from(!good),
            Err(panicked) => {
                let panic = panicked.into_panic();
                let told = panic.downcast_ref::<&str>().copied().unwrap_or_default();
                assert!(told.ends_with("as it was told"), "{told}");
            }
        }
    }
    failures
}

async fn nothing_is_left(layer: &CacheLayer, cached: &Cached, clock: &TestClock) {
    all_is_quiet(layer, 0).await;
    clock.advance(Duration::from_secs(61));
    for key in 0..KEYS {
        let path = format!("/{key}");
        assert_eq!(cached.text(&path).await.0, "first second");
        assert!(cached.text(&path).await.1.contains("; hit"));
    }
}
