//! The macro that makes code of the table of settings.

/// Makes [`CacheConfig`](super::CacheConfig), its defaults, the builder's methods and the list
/// `SETTINGS` of a table with one row for each setting:
///
/// ```text
/// /// The documentation of the builder's method.
/// max_body: u64 {                              // The field of `CacheConfig`.
///     default: MIB,
///     allowed: 1..=256 * MIB,                  // Any `Bounds`; `..` allows everything.
///     builder: |bytes: u64| bytes,             // The method's argument, and the field's value.
///     variable: "CACHE_MAX_BODY" like "1MiB",
/// }
/// ```
///
/// The table begins with the fields that are no rows, since they cannot be read from text.
macro_rules! settings {
    (
        $(#[$config_attribute:meta])*
        pub struct $config:ident {
            $($other:ident: $other_type:ty = $other_default:expr,)*
        }
        $(
            $(#[doc = $doc:literal])*
            $(#[cfg($cfg:meta)])?
            $name:ident: $type:ty {
                default: $default:expr,
                allowed: $allowed:expr,
                builder: |$argument:ident: $argument_type:ty| $value:expr,
                variable: $variable:literal like $example:literal,
            }
        )*
    ) => {
        $(#[$config_attribute])*
        pub struct $config {
            $(pub(crate) $other: $other_type,)*
            $(
                $(#[cfg($cfg)])?
                pub(crate) $name: $type,
            )*
        }

        impl Default for $config {
            /// In memory only, with every setting at its default.
            fn default() -> Self {
                Self {
                    $($other: $other_default,)*
                    $(
                        $(#[cfg($cfg)])?
                        $name: $default,
                    )*
                }
            }
        }

        impl CacheConfigBuilder {
            $(
                $(#[doc = $doc])*
                ///
                #[doc = concat!("Variable: `", $variable, "`, such as `", $example, "`.")]
                $(#[cfg($cfg)])?
                pub fn $name(mut self, $argument: $argument_type) -> Self {
                    self.config.$name = $value;
                    self
                }
            )*
        }

        /// All settings, in the order of the README.
        pub(super) const SETTINGS: &[Setting] = &[
            URL,
            $(
                $(#[cfg($cfg)])?
                Setting {
                    name: stringify!($name),
                    variable: $variable,
                    read: |builder, text| {
                        builder.config.$name = FromText::from_text(text)?;
                        Ok(())
                    },
                    check: |name, config| $allowed.check(name, &config.$name),
                    #[cfg(test)]
                    example: $example,
                    #[cfg(test)]
                    documentation: concat!($($doc, "\n"),*),
                },
            )*
        ];

        /// The names of all settings.
        #[cfg(feature = "serde")]
        pub(super) const NAMES: &[&str] = &[
            URL.name,
            $(
                $(#[cfg($cfg)])?
                stringify!($name),
            )*
        ];
    };
}

pub(super) use settings;
