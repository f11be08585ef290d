//! Steps as text: plain data that is written and read as short words, and shrunk piece by piece.
//!
//! A failing run is a line of text that can be pasted into a test. Fields at their default are left
//! out, so a shrunk step has only what matters.

/// A value that is written as one word.
pub trait Word: Clone + Default + PartialEq {
    fn write(&self) -> String;
    fn read(text: &str) -> Option<Self>;
    /// Simpler values to try in its place, the simplest first.
    fn simpler(&self) -> Vec<Self>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Word for $number {
            fn write(&self) -> String {
                self.to_string()
            }

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn simpler(&self) -> Vec<Self> {
                let smaller = [0, 1, *self / 10 * 5, *self / 100 * 100, *self / 10 * 10];
                let mut smaller: Vec<Self> = smaller.into_iter().filter(|it| it < self).collect();
                smaller.sort_unstable();
                smaller.dedup();
                smaller
            }
        }
    )*};
}

numbers!(u8, u32, u64);

impl Word for bool {
    fn write(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }
    }

    fn simpler(&self) -> Vec<Self> {
        if *self { vec![false] } else { Vec::new() }
    }
}

/// An enum of which each variant has a word. The first one is the default.
macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident {
        $(#[$first_doc:meta])* $first:ident = $first_word:literal,
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            #[default]
            $(#[$first_doc])* $first,
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            pub const ALL: &'static [Self] = &[Self::$first, $(Self::$variant),*];
        }

        impl crate::text::Word for $name {
            fn write(&self) -> String {
                match self {
                    Self::$first => $first_word,
                    $(Self::$variant => $word,)*
                }
                .to_owned()
            }

            fn read(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.write() == text)
            }

            fn simpler(&self) -> Vec<Self> {
                if *self == Self::default() {
                    Vec::new()
                } else {
                    vec![Self::default()]
                }
            }
        }
    };
}

/// A struct that is written as `field=word field=word`.
macro_rules! record {
    ($(#[$doc:meta])* pub struct $name:ident {
        $($(#[$field_doc:meta])* pub $field:ident: $kind:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl crate::text::Record for $name {
            fn write(&self, out: &mut String) {
                $(
                    if self.$field != <$kind>::default() {
                        out.push_str(concat!(" ", stringify!($field), "="));
                        out.push_str(&crate::text::Word::write(&self.$field));
                    }
                )*
            }

            fn set(&mut self, name: &str, text: &str) -> Option<()> {
                match name {
                    $(stringify!($field) => self.$field = crate::text::Word::read(text)?,)*
                    _ => return None,
                }
                Some(())
            }

            fn simpler(&self) -> Vec<Self> {
                let mut all = Vec::new();
                $(
                    for simpler in crate::text::Word::simpler(&self.$field) {
                        let mut one = *self;
                        one.$field = simpler;
                        all.push(one);
                    }
                )*
                all
            }
        }
    };
}

pub(crate) use {record, words};

/// A struct of words.
pub trait Record: Clone + Default + PartialEq {
    fn write(&self, out: &mut String);
    fn set(&mut self, name: &str, text: &str) -> Option<()>;
    /// The same with one field simpler, each way there is.
    fn simpler(&self) -> Vec<Self>;
}

/// Reads `field=word field=word`.
pub fn read_record<R: Record>(words: &[&str]) -> Result<R, String> {
    let mut record = R::default();
    for word in words {
        let pair = word.split_once('=');
        pair.and_then(|(name, text)| record.set(name, text))
            .ok_or_else(|| format!("not understood: {word}"))?;
    }
    Ok(record)
}
