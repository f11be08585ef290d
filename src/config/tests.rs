use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;

use super::bounds::YEAR;
use super::settings::SETTINGS;
use super::*;
use crate::error::ConfigError;
use crate::key::QueryRule;

/// A builder with a bad value, and the text of its error.
type Bad = (fn() -> Result<(), ConfigError>, &'static str);

fn cache(builder: CacheConfigBuilder) -> Result<(), ConfigError> {
    builder.build().map(drop)
}

fn policy(builder: PolicyBuilder) -> Result<(), ConfigError> {
    builder.build().map(drop)
}

fn new() -> CacheConfigBuilder {
    CacheConfig::builder()
}

const DAY: Duration = Duration::from_secs(24 * 3600);

const BAD_SETTINGS: [Bad; 22] = [
    (
        || cache(new().prefix("")),
        "prefix = : expected 1 to 64 visible ASCII characters other than { and }",
    ),
    (
        || cache(new().prefix("a{b}")),
        "prefix = a{b}: expected 1 to 64 visible ASCII characters other than { and }",
    ),
    (
        || cache(new().prefix("a b")),
        "prefix = a b: expected 1 to 64 visible ASCII characters other than { and }",
    ),
    (
        || cache(new().status_name("my cache")),
        "status_name = my cache: expected a structured-field token of at most 64 characters",
    ),
    (
        || cache(new().status_name("")),
        "status_name = : expected a structured-field token of at most 64 characters",
    ),
    (
        || cache(new().operation_timeout(Duration::ZERO)),
        "operation_timeout = 0s: expected 1ms to 1m",
    ),
    (
        || cache(new().operation_timeout(DAY)),
        "operation_timeout = 1day: expected 1ms to 1m",
    ),
    (
        || cache(new().connect_timeout(DAY)),
        "connect_timeout = 1day: expected 1ms to 1m",
    ),
    (
        || cache(new().fill_deadline(Duration::ZERO)),
        "fill_deadline = 0s: expected 1ms to 1h",
    ),
    (
        || cache(new().follower_wait(DAY)),
        "follower_wait = 1day: expected 1ms to 1h",
    ),
    (
        || cache(new().uncacheable_ttl(DAY)),
        "uncacheable_ttl = 1day: expected 0s to 1h",
    ),
    (
        || cache(new().purge_bound(Duration::from_millis(99))),
        "purge_bound = 99ms: expected 100ms to 1h",
    ),
    (
        || cache(new().default_ttl(366 * DAY)),
        "default_ttl = 1year 18h: expected 0s to 11months 30days 3h 50m 24s",
    ),
    (
        || cache(new().max_body(0)),
        "max_body = 0 B: expected 1 B to 256.0 MiB",
    ),
    (
        || cache(new().max_body(64 << 20)),
        "memory_bytes = 64.0 MiB: expected at least 80.0 MiB",
    ),
    (
        || cache(new().fill_bytes(1000)),
        "fill_bytes = 1000 B: expected 1.0 MiB to 256.0 GiB",
    ),
    (
        || cache(new().write_queue_bytes(0)),
        "write_queue_bytes = 0 B: expected 64.0 KiB to 256.0 GiB",
    ),
    (
        || cache(new().max_variants(0)),
        "max_variants = 0: expected at least 1",
    ),
    (
        || cache(new().max_flights(0)),
        "max_flights = 0: expected at least 1",
    ),
    (
        || cache(new().purge_log_length(15)),
        "purge_log_length = 15: expected at least 16",
    ),
    (
        || policy(Policy::builder().heuristic_percent(101)),
        "heuristic_percent = 101: expected 0 to 100",
    ),
    (
        || {
            let ttl = Duration::from_secs(60);
            policy(Policy::builder().default_ttl(ttl).forced_ttl(ttl))
        },
        "forced_ttl = 1m: expected no default_ttl beside it: forced_ttl always wins",
    ),
];

#[test]
fn a_bad_setting_is_reported_with_its_value_and_what_is_allowed() {
    for (bad, expected) in BAD_SETTINGS {
        let error = bad().unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(expected.starts_with(error.setting()));
    }
}

#[test]
fn contradictions_in_the_key_are_reported() {
    let host = HeaderName::from_static("x-host");
    let contradiction = Policy::builder()
        .drop_header(host.clone())
        .key_headers([host]);
    let no_names = Policy::builder().query(QueryRule::Only(Vec::new()));
    let table = [
        (contradiction, "key_headers"),
        (Policy::builder().key_cookies(["a=b"]), "key_cookies"),
        (Policy::builder().key_cookies([""]), "key_cookies"),
        (no_names, "query"),
    ];
    for (builder, setting) in table {
        assert_eq!(builder.build().unwrap_err().setting(), setting);
    }
}

#[test]
fn the_bounds_themselves_are_allowed() {
    let hour = Duration::from_secs(3600);
    let least = new()
        .prefix("p")
        .memory_bytes(0)
        .max_body(1)
        .fill_bytes(1)
        .write_queue_bytes(64 << 10)
        .max_variants(1)
        .max_followers(0)
        .max_flights(1)
        .operation_timeout(Duration::from_millis(1))
        .uncacheable_ttl(Duration::ZERO)
        .default_ttl(Duration::ZERO)
        .purge_bound(Duration::from_millis(100))
        .purge_log_length(16);
    let most = new()
        .prefix("p".repeat(64))
        .memory_bytes(320 << 20)
        .max_body(256 << 20)
        .fill_bytes(256 << 20)
        .operation_timeout(Duration::from_secs(60))
        .fill_deadline(hour)
        .follower_wait(hour)
        .purge_bound(hour)
        .default_ttl(YEAR);
    for builder in [least, most] {
        assert_eq!(builder.build().err(), None);
    }
}

/// Settings from these variables. The environment of the process is not read.
fn from_vars(variables: &[(&str, &str)]) -> Result<CacheConfig, ConfigError> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    CacheConfig::from_vars(|name| variables.get(name).map(|&value| value.to_owned()))
}

#[test]
fn every_variable_sets_its_setting() {
    let config = from_vars(&[
        ("CACHE_URL", "valkey://h:1/2"),
        ("CACHE_PREFIX", "shop"),
        ("CACHE_STATUS_NAME", "edge"),
        ("CACHE_MEMORY_BYTES", "1MiB"),
        ("CACHE_MAX_BODY", "2KiB"),
        ("CACHE_MAX_VARIANTS", "3"),
        ("CACHE_DEFAULT_TTL", "4s"),
        ("CACHE_OPERATION_TIMEOUT", "5ms"),
        ("CACHE_CONNECT_TIMEOUT", "6s"),
        ("CACHE_WRITE_QUEUE_BYTES", "7MiB"),
        ("CACHE_FILL_BYTES", "8MiB"),
        ("CACHE_FILL_DEADLINE", "9s"),
        ("CACHE_FOLLOWER_WAIT", "10s"),
        ("CACHE_UNCACHEABLE_TTL", "0"),
        ("CACHE_PURGE_BOUND", "12s"),
        ("CACHE_MAX_FOLLOWERS", "13"),
        ("CACHE_MAX_FLIGHTS", "14"),
        ("CACHE_PURGE_LOG_LENGTH", "15000"),
        ("CACHE_COMPRESS_ABOVE", "16KiB"),
        ("CACHE_LEASE", "true"),
        ("CACHE_STRICT_READINESS", "true"),
    ])
    .unwrap();
    let secs = Duration::from_secs;
    assert_eq!(config.store(), "valkey://h:1/2");
    assert_eq!(config.prefix, "shop");
    assert_eq!(config.status_name, "edge");
    assert_eq!(config.memory_bytes, 1 << 20);
    assert_eq!(config.max_body, 2 << 10);
    assert_eq!(config.max_variants, 3);
    assert_eq!(config.default_ttl, secs(4));
    assert_eq!(config.operation_timeout, Duration::from_millis(5));
    assert_eq!(config.connect_timeout, secs(6));
    assert_eq!(config.write_queue_bytes, 7 << 20);
    assert_eq!(config.fill_bytes, 8 << 20);
    assert_eq!(config.fill_deadline, secs(9));
    assert_eq!(config.follower_wait, secs(10));
    assert_eq!(config.uncacheable_ttl, Duration::ZERO);
    assert_eq!(config.purge_bound, secs(12));
    assert!(config.strict_readiness);
    assert_eq!(config.max_followers, 13);
    assert_eq!(config.max_flights, 14);
    assert_eq!(config.purge_log_length, 15_000);
    #[cfg(feature = "zstd")]
    assert_eq!(config.compress_above, Some(16 << 10));
    assert!(config.lease);
}

/// The rows of the README's table of settings: name, variable, default.
fn readme_rows() -> impl Iterator<Item = [&'static str; 3]> {
    let table = include_str!("../../README.md")
        .split_once("\n## Settings\n")
        .and_then(|(_, rest)| rest.split_once("\n|---|---|---|---|\n"))
        .map(|(_, rows)| rows)
        .unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, name, variable, default, ..] = cells[..] else {
            panic!("{row}")
        };
        [name.trim_matches('`'), variable.trim_matches('`'), default]
    })
}

#[test]
fn the_readme_has_a_row_for_every_setting() {
    let rows: Vec<_> = readme_rows()
        .map(|[name, variable, _]| (name, variable))
        // A build without the feature `zstd` knows nothing of its setting.
        .filter(|(name, _)| cfg!(feature = "zstd") || *name != "compress_above")
        .collect();
    let settings = SETTINGS.iter();
    let settings: Vec<_> = settings.map(|row| (row.name, row.variable)).collect();
    assert_eq!(rows, settings);
}

#[test]
fn a_setting_has_the_default_that_the_readme_and_its_documentation_say() {
    let defaults = format!("{:?}", CacheConfig::default());
    for setting in SETTINGS {
        let [_, variable, default] = readme_rows()
            .find(|[name, ..]| *name == setting.name)
            .unwrap();
        let text = match default {
            "none" => "0".to_owned(),
            "never" => String::new(),
            _ => default.replace(['`', ','], ""),
        };
        let config = from_vars(&[(variable, &text)]).unwrap();
        assert_eq!(format!("{config:?}"), defaults, "{variable} = {text}");
        let said = format!("Default: {default}.");
        // The URL's documentation does not stand in the table.
        let stands = setting.name == "url" || setting.documentation.contains(&said);
        assert!(stands, "{}: {said}", setting.name);
    }
}

#[test]
fn the_example_of_a_variable_is_allowed() {
    for setting in SETTINGS {
        let config = from_vars(&[(setting.variable, setting.example)]);
        assert_eq!(config.err(), None, "{}", setting.variable);
    }
}

#[test]
fn an_unset_or_empty_variable_leaves_its_setting_at_the_default() {
    for variables in [&[][..], &[("CACHE_URL", ""), ("CACHE_MAX_BODY", "")]] {
        let config = from_vars(variables).unwrap();
        assert_eq!(config.store(), "memory://");
        assert_eq!(config.max_body, CacheConfig::default().max_body);
    }
}

#[test]
fn memory_can_be_asked_for_by_name() {
    for url in ["memory://", "MEMORY://", "memory:"] {
        assert_eq!(
            from_vars(&[("CACHE_URL", url)]).unwrap().store(),
            "memory://"
        );
    }
}

#[test]
fn a_bad_variable_is_reported_by_its_own_name() {
    let table = [
        (
            ("CACHE_MAX_BODY", "much"),
            "CACHE_MAX_BODY = much: expected a size such as 65536, 64KiB or 1MiB",
        ),
        (
            ("CACHE_MAX_BODY", "-1"),
            "CACHE_MAX_BODY = -1: expected a size such as 65536, 64KiB or 1MiB",
        ),
        (
            ("CACHE_DEFAULT_TTL", "30"),
            "CACHE_DEFAULT_TTL = 30: expected a duration such as 50ms, 5s or 1h",
        ),
        (
            ("CACHE_MAX_VARIANTS", "few"),
            "CACHE_MAX_VARIANTS = few: expected a number such as 64",
        ),
        (
            ("CACHE_STRICT_READINESS", "yes"),
            "CACHE_STRICT_READINESS = yes: expected true or false",
        ),
        // The value can be read but is out of bounds, so the error names the setting.
        (
            ("CACHE_MAX_BODY", "0"),
            "max_body = 0 B: expected 1 B to 256.0 MiB",
        ),
    ];
    for (variable, expected) in table {
        assert_eq!(from_vars(&[variable]).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_url_never_shows_its_password() {
    let config = from_vars(&[("CACHE_URL", "valkey://app:hunter2@h")]).unwrap();
    let shown = format!("{} {config:?} {config:#?}", config.store());
    assert!(shown.contains("valkey://app:***@h:6379/0"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    for url in [
        "valkey://app:hunter2@",
        "valkey://app:hunter2@h:port",
        "valkey://app:hunter2#@h",
        "hunter2",
        "http://app:hunter2@h",
    ] {
        let error = from_vars(&[("CACHE_URL", url)]).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert_eq!(error.setting(), "url", "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[cfg(feature = "serde")]
mod by_serde {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_with_their_units() {
        let config: CacheConfig = serde_json::from_str(
            r#"{
                "url": "valkey://h", "prefix": "shop", "memory_bytes": 1048576,
                "max_body": "2MiB", "fill_bytes": "3 MiB", "operation_timeout": "20ms",
                "default_ttl": "1h 30m", "max_followers": 5, "strict_readiness": true
            }"#,
        )
        .unwrap();
        assert_eq!(config.memory_bytes, 1 << 20);
        assert_eq!(config.max_body, 2 << 20);
        assert_eq!(config.fill_bytes, 3 << 20);
        assert_eq!(config.operation_timeout, Duration::from_millis(20));
        assert_eq!(config.default_ttl, Duration::from_secs(5400));
        assert_eq!(config.max_followers, 5);
        assert!(config.strict_readiness);
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn the_length_from_which_bodies_are_compressed_is_read() {
        let config: CacheConfig = serde_json::from_str(r#"{ "compress_above": "4KiB" }"#).unwrap();
        assert_eq!(config.compress_above, Some(4 << 10));
    }

    #[test]
    fn mistakes_are_reported() {
        let table = [
            (r#"{ "memory": 1 }"#, "unknown field `memory`"),
            (r#"{ "default_ttl": "30" }"#, "a duration such as"),
            (r#"{ "default_ttl": 30 }"#, "a duration such as"),
            (r#"{ "max_body": "lots" }"#, "a size such as"),
            (r#"{ "max_body": -1 }"#, "a size such as"),
            (r#"{ "max_body": [] }"#, "a string, a whole number"),
            (r#"{ "lease": 1 }"#, "true or false"),
            (
                r#"{ "lease": true, "lease": true }"#,
                "duplicate field `lease`",
            ),
            (r#"{ "max_body": 0 }"#, "max_body = 0 B: expected 1 B"),
            (r#"{ "url": "http://h" }"#, "unknown scheme `http`"),
        ];
        for (json, expected) in table {
            let error = serde_json::from_str::<CacheConfig>(json).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn null_leaves_a_setting_at_its_default() {
        let json = r#"{ "url": null, "max_body": null, "default_ttl": null }"#;
        let config: CacheConfig = serde_json::from_str(json).unwrap();
        let defaults = CacheConfig::default();
        assert_eq!(format!("{config:?}"), format!("{defaults:?}"));
    }

    #[test]
    fn a_password_is_not_in_an_error() {
        let json = r#"{ "url": "valkey://app:hunter2@h:port" }"#;
        let error = serde_json::from_str::<CacheConfig>(json).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
