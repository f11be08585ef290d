//! The application's values of one type, in a namespace.

use std::fmt;
use std::marker::PhantomData;

use ::serde::Serialize;
use ::serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::cache::values::ValueOptions;
use crate::error::PurgeError;

/// The application's values of one type, by name. They are stored as JSON.
///
/// Names in different namespaces never collide, and never with the names of [`Cache::get`]. A stored
/// value that cannot be read as a `T` is a miss. An older version of the application may have
/// stored it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use tower_response_cache::{Cache, CacheConfig};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Rate {
///     currency: String,
///     cents: u64,
/// }
///
/// let cache = Cache::new(CacheConfig::default());
/// let rates = cache.namespace::<Rate>("rates");
/// let load = async || {
///     Ok::<_, std::io::Error>(Rate { currency: "EUR".into(), cents: 107 })
/// };
/// let rate = rates.get_or_set_with("EUR", Duration::from_secs(60), load).await?;
/// assert_eq!(rates.get("EUR").await, Some(rate));
/// assert_eq!(cache.namespace::<Rate>("other").get("EUR").await, None);
/// # Ok(())
/// # }
/// ```
pub struct Namespace<T> {
    cache: Cache,
    name: Box<str>,
    values: PhantomData<fn() -> T>,
}

impl Cache {
    /// The namespace `name`, for values of the type `T`.
    #[must_use]
    pub fn namespace<T>(&self, name: &str) -> Namespace<T> {
        Namespace {
            cache: self.clone(),
            name: name.into(),
            values: PhantomData,
        }
    }
}

impl<T: Serialize + DeserializeOwned> Namespace<T> {
    /// The value under `name`, as [`Cache::get`] returns it.
    pub async fn get(&self, name: &str) -> Option<T> {
        let bytes = self.cache.get_in(&self.name, name).await?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Stores a value, as [`Cache::set`] does.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Store`] with the error of [`Cache::set`]. [`NamespaceError::Json`] if the
    /// value cannot be written as JSON.
    pub async fn set(
        &self,
        name: &str,
        value: &T,
        options: impl Into<ValueOptions>,
    ) -> Result<(), NamespaceError<PurgeError>> {
        let bytes = serde_json::to_vec(value).map_err(NamespaceError::Json)?;
        let stored = self
            .cache
            .set_in(&self.name, name, bytes.into(), options.into());
        stored.await.map_err(NamespaceError::Store)
    }

    /// Removes a value, as [`Cache::remove`] does.
    ///
    /// # Errors
    ///
    /// The error of [`Cache::remove`].
    pub async fn remove(&self, name: &str) -> Result<(), PurgeError> {
        self.cache.remove_in(&self.name, name).await
    }

    /// The value under `name`. If there is none, `make` makes it, as for [`Cache::get_or_set_with`].
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Store`] with the error of `make`, if there is no stale value.
    /// [`NamespaceError::Json`] if the value cannot be written as JSON, or read back as a `T`.
    pub async fn get_or_set_with<E>(
        &self,
        name: &str,
        options: impl Into<ValueOptions>,
        make: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, NamespaceError<E>> {
        let write = async || {
            let value = make().await.map_err(NamespaceError::Store)?;
            serde_json::to_vec(&value).map_err(NamespaceError::Json)
        };
        let made = self
            .cache
            .get_or_set_in(&self.name, name, options.into(), write);
        serde_json::from_slice(&made.await?).map_err(NamespaceError::Json)
    }
}

impl<T> Clone for Namespace<T> {
    fn clone(&self) -> Self {
        let Self {
            cache,
            name,
            values,
        } = self;
        Self {
            cache: cache.clone(),
            name: name.clone(),
            values: *values,
        }
    }
}

impl<T> fmt::Debug for Namespace<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The error of a [`Namespace`].
#[derive(Debug)]
#[non_exhaustive]
pub enum NamespaceError<E> {
    /// The store did not take the value, or the application could not make it.
    Store(E),
    /// The value cannot be written as JSON, or the JSON is not of its type.
    Json(serde_json::Error),
}

impl<E: fmt::Display> fmt::Display for NamespaceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Json(error) => write!(f, "the value is not JSON of its type: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for NamespaceError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            Self::Json(error) => Some(error),
        }
    }
}
