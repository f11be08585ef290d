//! What is newer stays, what is purged is of no use, and what fails does not stand in.

use super::*;

#[tokio::test(start_paused = true)]
async fn tags_went_to_clients_with_what_passed_by() {
    let origin = Arc::<Origin>::default();
    let strips = Policy::builder().strip_tags(true);
    let bypasses = strips.clone().bypass_if(|_| true);
    let app = App::in_memory(&origin);
    let app_stripping = app.with(strips.build().unwrap());
    let app_bypassing = app.with(bypasses.build().unwrap());
    origin.set("cache-tag", "secret");
    origin.set(ETAG, "\"a\"");
    let ranged = [("range", "bytes=0-0")];
    let conditional = [("if-none-match", "\"a\"")];
    for (name, control, status) in [
        ("what is stored", "max-age=1", None),
        (
            "what is validated",
            "max-age=1",
            Some(StatusCode::NOT_MODIFIED),
        ),
        ("what is not stored", "no-store", None),
        ("what is for one", "private", None),
        (
            "a failure",
            "max-age=1",
            Some(StatusCode::INTERNAL_SERVER_ERROR),
        ),
    ] {
        origin.set("cache-control", control);
        *origin.status.lock().unwrap() = status;
        for (method, fields) in [
            ("GET", &[][..]),
            ("GET", &ranged),
            ("GET", &conditional),
            ("HEAD", &[]),
            ("POST", &[]),
        ] {
            for app in [&app_stripping, &app_bypassing] {
                let answer = app.ask(method, "/page", fields).await;
                let shows = answer.headers().contains_key("cache-tag");
                assert!(!shows, "{name}: {method} {fields:?} {answer:?}");
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    *origin.status.lock().unwrap() = None;
    assert!(
        app.ask("GET", "/other", &[])
            .await
            .headers()
            .contains_key("cache-tag")
    );
}

/// The others find the log in sight before the change is in it.
#[tokio::test(start_paused = true)]
async fn a_log_that_took_writes_again_was_trusted_before_what_had_waited_was_announced() {
    for later in (0..2000).step_by(50) {
        let (origin, store) = (Arc::<Origin>::default(), InProcessStore::new());
        let (here, there) = (
            App::on(&origin, &store),
            App::on(&origin, &store.instance()),
        );
        here.text("/other").await;
        there.text("/page").await;
        settle().await;
        store.set_full(true);
        here.ask("PUT", "/page", &[]).await;
        tokio::time::sleep(Duration::from_millis(7000 + later)).await;
        store.set_full(false);
        for after in (0..3000).step_by(20) {
            assert_eq!(there.text("/page").await, "1", "{later} {after}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_was_compared_with_an_older_page_took_the_newer_one_away() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    origin.set(ETAG, "\"a\"");
    app.text("/page").await;
    tokio::time::sleep(Duration::from_secs(601)).await;
    origin.set(ETAG, "\"b\"");
    origin.version.store(1, Ordering::SeqCst);
    let gate = origin.close();
    let mut head = app.ask("HEAD", "/page", &[("x-wait", "1")]);
    poll_once(&mut head).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    app.text("/page").await;
    gate.add_permits(1);
    head.await;
    assert_eq!(app.see("/page").await, ("1".to_owned(), true));
}

/// What is softly purged is served once more, so that the refresh is what is newer.
#[tokio::test(start_paused = true)]
async fn what_was_fetched_before_a_soft_purge_displaced_what_was_fetched_after_it() {
    for validated in [false, true] {
        let origin = Arc::<Origin>::default();
        let app = App::in_memory(&origin);
        if validated {
            origin.set(ETAG, "\"a\"");
            app.text("/page").await;
            tokio::time::sleep(Duration::from_secs(601)).await;
        }
        let gate = origin.close();
        let mut slow = app.ask("GET", "/page", &[("x-wait", "1")]);
        poll_once(&mut slow).await;
        app.cache.purge(Purge::path("/page").soft()).await.unwrap();
        origin.version.store(1, Ordering::SeqCst);
        origin.set(ETAG, "\"b\"");
        assert_eq!(app.text("/page").await, "1", "{validated}");
        if validated {
            origin.set(ETAG, "\"a\"");
            *origin.status.lock().unwrap() = Some(StatusCode::NOT_MODIFIED);
        }
        gate.add_permits(1);
        slow.await;
        let kept = app.see("/page").await;
        assert_eq!(kept, ("1".to_owned(), true), "{validated}");
    }
}

/// Both were asked for after the same purges: the one is about what the other has replaced.
#[tokio::test(start_paused = true)]
async fn a_slow_304_put_the_older_page_in_the_place_of_a_newer_one() {
    let (origin, store) = (Arc::<Origin>::default(), InProcessStore::new());
    let (here, there) = (
        App::on(&origin, &store),
        App::on(&origin, &store.instance()),
    );
    origin.set(ETAG, "\"a\"");
    here.text("/page").await;
    settle().await;
    tokio::time::sleep(Duration::from_secs(601)).await;
    let gate = origin.close();
    let mut slow = here.ask("GET", "/page", &[("x-wait", "1")]);
    let wait = tokio::time::timeout(Duration::from_millis(10), &mut slow);
    assert!(wait.await.is_err());
    origin.version.store(1, Ordering::SeqCst);
    origin.set(ETAG, "\"b\"");
    there.text("/page").await;
    settle().await;
    // By way of the store, which those who wait for nobody ask.
    here.ask("GET", "/page", &[("range", "bytes=0-0")]).await;
    origin.set(ETAG, "\"a\"");
    *origin.status.lock().unwrap() = Some(StatusCode::NOT_MODIFIED);
    gate.add_permits(1);
    slow.await;
    assert_eq!(here.see("/page").await, ("1".to_owned(), true));
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_that_was_purged_meanwhile_stood_in_for_one_that_could_not_be_made() {
    let cache = Cache::new(config());
    let options = || {
        ValueOptions::ttl(Duration::from_secs(1))
            .stale(Duration::from_secs(600))
            .tag("a")
    };
    for (purges, expected) in [(false, Ok("old")), (true, Err("down"))] {
        cache.set("name", "old", options()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let make = async || {
            if purges {
                cache.purge(Purge::tag("a")).await.unwrap();
            }
            Err::<&str, _>("down")
        };
        let got = cache.get_or_set_with("name", options(), make).await;
        assert_eq!(got.as_deref(), expected.as_ref().map(|it| it.as_bytes()));
    }
    cache.set("name", "old", options()).await.unwrap();
    let make = async || {
        tokio::time::sleep(Duration::from_secs(602)).await;
        Err::<&str, _>("down")
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let got = cache.get_or_set_with("name", options(), make).await;
    assert_eq!(got, Err("down"), "its time was over");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_was_softly_purged_and_gets_only_heads_was_never_refreshed() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    app.text("/page").await;
    app.cache.purge(Purge::path("/page").soft()).await.unwrap();
    origin.version.store(1, Ordering::SeqCst);
    let (_, status) = seen(app.ask("HEAD", "/page", &[]).await).await;
    assert!(status.contains("soft-purged"), "{status}");
    settle().await;
    assert_eq!(app.see("/page").await, ("1".to_owned(), true));
    assert_eq!(origin.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failing_handler_was_called_by_all_who_had_waited_for_it_at_once() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    let gate = origin.close();
    origin.set("cache-control", "no-store");
    *origin.status.lock().unwrap() = Some(StatusCode::SERVICE_UNAVAILABLE);
    let mut asking = Vec::new();
    for _ in 0..20 {
        let mut one = app.ask("GET", "/page", &[("x-wait", "1")]);
        poll_once(&mut one).await;
        asking.push(tokio::spawn(one));
    }
    gate.add_permits(1);
    settle().await;
    assert_eq!(origin.calls.load(Ordering::SeqCst), 2, "one tries again");
    *origin.status.lock().unwrap() = None;
    origin.set("cache-control", "max-age=600");
    gate.add_permits(1);
    for one in asking.drain(1..) {
        assert_eq!(one.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(origin.calls.load(Ordering::SeqCst), 2, "and all have it");
}

#[tokio::test(start_paused = true)]
async fn a_stored_failure_stood_in_for_another() {
    let origin = Arc::<Origin>::default();
    let app = App::in_memory(&origin);
    origin.set("cache-control", "max-age=1, stale-if-error=600");
    for (first, second, expected) in [
        (StatusCode::OK, StatusCode::BAD_GATEWAY, StatusCode::OK),
        (
            StatusCode::NOT_FOUND,
            StatusCode::BAD_GATEWAY,
            StatusCode::NOT_FOUND,
        ),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::BAD_GATEWAY,
            StatusCode::BAD_GATEWAY,
        ),
    ] {
        let uri = format!("/{}", first.as_u16());
        *origin.status.lock().unwrap() = Some(first);
        app.text(&uri).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        *origin.status.lock().unwrap() = Some(second);
        let answer = app.ask("GET", &uri, &[]).await;
        assert_eq!(answer.status(), expected, "{first} before {second}");
    }
}
