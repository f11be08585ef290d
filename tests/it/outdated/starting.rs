//! Instances that start while others change much: what is stored is of use to them, and nothing that
//! was purged is.

use super::*;

/// As many records as a log may have at the least.
const LENGTH: usize = 16;

const PAGES: usize = 40;

/// An instance with so short a log.
fn instance(origin: &Arc<Origin>, store: &InProcessStore) -> App {
    let config = CacheConfig::builder()
        .clock(TokioClock::default())
        .purge_log_length(LENGTH)
        .build()
        .unwrap();
    App::of(
        origin,
        Cache::with_store(config, Arc::new(store.instance())),
    )
}

fn page(number: usize) -> String {
    format!("/page/{number}")
}

/// A log that has forgotten all purges but the last; the first of them was of the first page.
async fn busy() -> (Arc<Origin>, InProcessStore, App) {
    let (origin, store) = (Arc::<Origin>::default(), InProcessStore::new());
    store.set_log_length(LENGTH);
    let app = instance(&origin, &store);
    for number in 0..PAGES {
        app.text(&page(number)).await;
    }
    settle().await;
    origin.version.store(1, Ordering::SeqCst);
    app.cache.purge(Purge::path(page(0))).await.unwrap();
    change_much(&app).await;
    (origin, store, app)
}

/// Purges others, once a second, for so long that the log has forgotten what came before.
async fn change_much(app: &App) {
    for number in 0..40 {
        let tag = format!("other {number}");
        app.cache.purge(Purge::tag(tag)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// How many of the pages an instance finds usable. The first is never shown as it was.
async fn usable(app: &App) -> usize {
    assert_eq!(app.text(&page(0)).await, "1", "what was purged");
    let mut hits = 0;
    for number in 1..PAGES {
        hits += usize::from(app.see(&page(number)).await.1);
    }
    hits
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_started_found_all_useless_that_is_older_than_the_log() {
    let (origin, store, old) = busy().await;
    let new = instance(&origin, &store);
    assert_eq!(usable(&new).await, PAGES - 1);
    // And passes it on, though the first is gone.
    drop(old);
    change_much(&new).await;
    drop(new);
    assert_eq!(usable(&instance(&origin, &store)).await, PAGES - 1);
}

/// Between it and the log's first record others may have been.
#[tokio::test(start_paused = true)]
async fn what_others_knew_is_not_used_if_the_log_has_moved_past_it() {
    let (origin, store, old) = busy().await;
    // Too soon for anyone to store it again.
    for _ in 0..2 {
        old.cache.purge(Purge::tag("another")).await.unwrap();
    }
    drop(old);
    store.trim_log(1);
    assert_eq!(usable(&instance(&origin, &store)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_others_knew_is_not_used_if_the_log_is_another() {
    let (origin, store, old) = busy().await;
    drop(old);
    store.lose_log();
    let new = instance(&origin, &store);
    new.cache.purge(Purge::tag("unrelated")).await.unwrap();
    settle().await;
    assert_eq!(usable(&new).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_others_knew_is_not_used_in_part() {
    for part in ["trc:index", "trc:index:1:0"] {
        let (origin, store, old) = busy().await;
        drop(old);
        assert!(store.evict(part), "{part}");
        assert_eq!(usable(&instance(&origin, &store)).await, 0, "{part}");
    }
}
