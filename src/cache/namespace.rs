//! Values of one type, in a namespace of their own.

use std::fmt;
use std::marker::PhantomData;

use ::serde::Serialize;
use ::serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::cache::values::ValueOptions;
use crate::error::PurgeError;

/// The application's values of one type, by name, stored as JSON.
///
/// Names in different namespaces never collide, nor do they with those of [`Cache::get`]. What is
/// stored and cannot be read as a `T` (of an older version of the application, say) is a miss.
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
    /// The application's values of one type, under a name of their own.
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
    /// The value under `name`: as [`Cache::get`].
    pub async fn get(&self, name: &str) -> Option<T> {
        let bytes = self.cache.get_in(&self.name, name).await?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Stores a value: as [`Cache::set`].
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Store`] as [`Cache::set`]; [`NamespaceError::Json`] if the value cannot be
    /// written as JSON.
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

    /// Removes a value: as [`Cache::remove`].
    ///
    /// # Errors
    ///
    /// [`PurgeError`] as [`Cache::remove`].
    pub async fn remove(&self, name: &str) -> Result<(), PurgeError> {
        self.cache.remove_in(&self.name, name).await
    }

    /// The value under `name`, made by `make` if there is none: as [`Cache::get_or_set_with`].
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Store`] with what `make` returned, if nothing can stand in for it;
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

/// Why a typed value could not be stored or had.
#[derive(Debug)]
#[non_exhaustive]
pub enum NamespaceError<E> {
    /// The store did not take it, or it could not be made.
    Store(E),
    /// The value is not JSON of its type.
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
