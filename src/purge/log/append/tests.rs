use std::time::Duration;

use super::*;
use crate::base::clock::{Clock, TokioClock};
use crate::base::position::Moment;
use crate::base::tags::Tags;
use crate::entry::Verified;
use crate::key::Key;
use crate::purge::{PurgeCheck, Validity};
use crate::store::{InProcessStore, Outage};

struct Scene {
    store: InProcessStore,
    index: Arc<PurgeIndex>,
    appender: Arc<Appender>,
}

impl Scene {
    fn new() -> Self {
        let store = InProcessStore::new();
        let index = Arc::new(PurgeIndex::new());
        index.always_current();
        let appender = Appender::new(Arc::clone(&index), Arc::new(store.clone()));
        Self {
            store,
            index,
            appender: Arc::new(appender),
        }
    }

    async fn purge(&self, tag: &str) -> Result<Appended, StoreError> {
        self.appender.append(&Purge::tag(tag), soon()).await
    }

    fn judge(&self, tag: &str, moment: Moment) -> Validity {
        let now = TokioClock::default().now();
        let check = PurgeCheck {
            key: &Key::of_value("", "k"),
            tags: &[tag].iter().collect::<Tags>(),
            has_query_rule: false,
            moment,
            stored: now,
            verified: &Verified::never(),
        };
        self.index.judge(&check, now, Duration::from_secs(5))
    }

    /// The records, each as the number of its selectors.
    fn records(&self) -> Vec<usize> {
        let records = self.store.records();
        let selectors = |bytes: &bytes::Bytes| record::decode(bytes).len();
        records.iter().map(|(_, bytes)| selectors(bytes)).collect()
    }
}

/// Waits until the purge is held: its own deadline may wake the caller before the append ends.
async fn until_held(scene: &Scene) {
    while !scene.appender.holds_any() {
        tokio::task::yield_now().await;
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

#[tokio::test(start_paused = true)]
async fn what_gathers_while_one_append_is_under_way_goes_out_as_the_next() {
    let scene = Scene::new();
    scene.store.set_latency(Duration::from_millis(10));
    let first = scene.purge("first");
    let others = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        tokio::join!(scene.purge("a"), scene.purge("b"), scene.purge("c"))
    };
    let (first, (a, b, c)) = tokio::join!(first, others);
    let position = a.unwrap().position;
    assert!(first.unwrap().position < position);
    assert_eq!(b.unwrap().position, position);
    assert_eq!(c.unwrap().position, position);
    assert_eq!(scene.records(), [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_purge_is_in_force_here_before_it_is_appended_and_though_it_is_not() {
    let scene = Scene::new();
    let before = scene.index.moment();
    scene.store.cut_off(Outage::Silent);
    let (appended, ()) = tokio::join!(scene.purge("a"), async {
        assert_eq!(scene.judge("a", before), Validity::Purged);
    });
    assert_eq!(appended, Err(StoreError::TimedOut));
    assert_eq!(scene.judge("a", before), Validity::Purged);
    assert_eq!(scene.judge("b", before), Validity::Valid);
    let after = scene.index.moment();
    assert_eq!(scene.judge("a", after), Validity::Valid, "fetched since");
    let stored = Moment::stored(after.position);
    assert_eq!(scene.judge("a", stored), Validity::Purged, "of another");

    scene.store.reconnect();
    until_held(&scene).await;
    scene.appender.retry(soon()).await.unwrap();
    assert!(!scene.appender.holds_any());
    let position = scene.index.appended();
    assert!(position > after.position);
    scene.index.advance(position);
    assert_eq!(scene.judge("a", after), Validity::Purged);
    assert_eq!(scene.judge("a", Moment::stored(position)), Validity::Valid);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_takes_nothing_with_it() {
    let scene = Scene::new();
    scene.store.set_latency(Duration::from_millis(10));
    let leaves = tokio::time::timeout(Duration::from_millis(1), scene.purge("left"));
    let (left, stayed) = tokio::join!(leaves, scene.purge("stayed"));
    assert!(left.is_err());
    stayed.unwrap();
    assert_eq!(scene.records().iter().sum::<usize>(), 2);
    assert!(!scene.appender.holds_any());
}

#[tokio::test(start_paused = true)]
async fn each_caller_waits_within_its_own_deadline() {
    let scene = Scene::new();
    scene.store.set_latency(Duration::from_millis(40));
    let began = Instant::now();
    let short = async {
        let purge = Purge::tag("short");
        let deadline = began + Duration::from_millis(20);
        let appended = scene.appender.append(&purge, deadline).await;
        (appended, began.elapsed())
    };
    let (long, (short, waited)) = tokio::join!(scene.purge("long"), short);
    assert!(long.is_ok());
    assert_eq!(short, Err(StoreError::TimedOut));
    assert!(waited < Duration::from_millis(30), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn too_many_that_cannot_be_appended_become_one_of_everything() {
    let scene = Scene::new();
    let before = scene.index.moment();
    scene.store.cut_off(Outage::Refused);
    for number in 0..=MOST_HELD_SELECTORS {
        assert!(scene.purge(&number.to_string()).await.is_err());
    }
    assert_eq!(scene.judge("another", before), Validity::Purged);
    scene.store.reconnect();
    scene.appender.retry(soon()).await.unwrap();
    assert_eq!(scene.records(), [1]);
    let after = Moment::stored(scene.index.appended());
    scene.index.advance(after.position);
    assert_eq!(scene.judge("another", after), Validity::Valid);
    assert_eq!(
        scene.judge("7", after),
        Validity::Valid,
        "nothing is pending"
    );
}
