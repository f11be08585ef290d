//! A store for a test, and the operations on it.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tower_response_cache::{
    AppendOptions, LogPosition, SharedStore, StoreError, StoreUrl, ValkeySettings, ValkeyStore,
};

pub(crate) fn settings(url: &str) -> ValkeySettings {
    ValkeySettings::new(StoreUrl::parse(url).unwrap())
}

pub(crate) fn store(url: &str) -> ValkeyStore {
    ValkeyStore::new(settings(url))
}

/// A deadline that is far enough away for a busy test machine.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

pub(crate) async fn get(store: &ValkeyStore, key: &str) -> Result<Option<Bytes>, StoreError> {
    store.get(key, soon()).await
}

pub(crate) async fn set(
    store: &ValkeyStore,
    key: &str,
    value: &'static str,
) -> Result<(), StoreError> {
    store.set(key, value.into(), MINUTE, soon()).await
}

pub(crate) async fn append(store: &ValkeyStore, record: &[u8]) -> Result<LogPosition, StoreError> {
    let appended = store.log_append(record, AppendOptions::new(), soon());
    appended.await.map(|appended| appended.position)
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
