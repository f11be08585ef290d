use super::*;

fn shown(url: &str) -> Result<String, UrlError> {
    StoreUrl::parse(url).map(|url| url.to_string())
}

#[test]
fn urls_are_read() {
    for (url, expected) in [
        ("valkey://h", "valkey://h:6379/0"),
        ("redis://h:1", "valkey://h:1/0"),
        ("VALKEY://h:1/7", "valkey://h:1/7"),
        ("valkey://h/", "valkey://h:6379/0"),
        ("valkey://[::1]:7/1", "valkey://[::1]:7/1"),
        ("valkey://[fe80::1]", "valkey://[fe80::1]:6379/0"),
        ("valkey://u:p@h", "valkey://u:***@h:6379/0"),
        ("valkey://u@h", "valkey://u@h:6379/0"),
        ("valkey://:p@h", "valkey://:***@h:6379/0"),
        ("valkey://:@h", "valkey://h:6379/0"),
        ("redis://h?protocol=resp3&db=4", "valkey://h:6379/4"),
        ("unix:///run/v.sock", "unix:///run/v.sock?db=0"),
        (
            "valkey+unix:///a%20b?db=3&user=u&pass=p",
            "unix://u:***@/a b?db=3",
        ),
        ("redis+unix://u:p@/a", "unix://u:***@/a?db=0"),
        (
            "valkey-sentinel://u:p@a:1,b/main/3?sentinel_pass=x",
            "valkey-sentinel://u:***@a:1,b:26379/main/3",
        ),
        (
            "redis-cluster://:p@a:1,[::1]",
            "valkey-cluster://:***@a:1,[::1]:6379",
        ),
    ] {
        assert_eq!(shown(url).as_deref(), Ok(expected), "{url}");
    }
}

#[test]
fn tls_urls_need_the_feature() {
    for url in ["valkeys://h", "rediss://h"] {
        match cfg!(feature = "tls") {
            true => assert_eq!(shown(url).as_deref(), Ok("valkeys://h:6379/0")),
            false => assert_eq!(shown(url), Err(UrlError::TlsNotBuiltIn)),
        }
    }
}

#[cfg(feature = "tls")]
#[test]
fn certificates_come_from_files() {
    let url = StoreUrl::parse("rediss://h?ca=/a%20b&cert=/c&key=/k").unwrap();
    let files = TlsFiles {
        ca: Some("/a b".to_owned()),
        cert: Some("/c".to_owned()),
        key: Some("/k".to_owned()),
    };
    assert_eq!(url.files, files);
    let half = StoreUrl::parse("rediss://h?cert=/c");
    assert_eq!(half.unwrap_err(), UrlError::HalfACertificate);
}

#[test]
fn credentials_are_percent_decoded() {
    let url = StoreUrl::parse("valkey://us%65r:p%40%2F%3a%25%C3%A9@h").unwrap();
    assert_eq!(url.login.user.as_deref(), Some("user"));
    assert_eq!(url.login.password.as_deref(), Some("p@/:%é"));
}

#[test]
fn an_at_sign_in_a_password_is_understood() {
    let url = StoreUrl::parse("valkey://u:p@ss@h").unwrap();
    assert_eq!(url.login.password.as_deref(), Some("p@ss"));
    assert_eq!(url.to_string(), "valkey://u:***@h:6379/0");
}

#[test]
fn bad_urls_are_told_apart() {
    let parameter = |name: &str| UrlError::UnknownParameter {
        name: name.to_owned(),
    };
    for (url, expected) in [
        ("", UrlError::NoScheme),
        ("localhost:6379", UrlError::NoScheme),
        ("valkey:/h", UrlError::NoScheme),
        (
            "http://h",
            UrlError::UnknownScheme {
                scheme: "http".to_owned(),
            },
        ),
        ("p@ss word://h", UrlError::NoScheme),
        ("valkey://", UrlError::NoHost),
        ("valkey://u:p@", UrlError::NoHost),
        ("valkey://:7", UrlError::NoHost),
        ("valkey://h h", UrlError::BadHost),
        ("valkey://[::1", UrlError::BadHost),
        ("valkey://h:0", UrlError::BadPort),
        ("valkey://h:70000", UrlError::BadPort),
        ("valkey://h:6379:1", UrlError::BadPort),
        ("valkey://h/x", UrlError::BadDatabase),
        ("valkey://h/-1", UrlError::BadDatabase),
        ("valkey://u:%zz@h", UrlError::BadEncoding),
        ("valkey://u:%f@h", UrlError::BadEncoding),
        ("valkey://u:%ff@h", UrlError::BadEncoding),
        ("valkey://h?protocol=2", UrlError::NeedsResp3),
        ("valkey://h?timeout=1", parameter("timeout")),
        ("valkey://h?S3CRET", parameter("…")),
        ("valkey://h#insecure", UrlError::Fragment),
        ("unix://", UrlError::NoPath),
        ("unix:///", UrlError::NoPath),
        ("unix://host/path", UrlError::NoPath),
        ("valkey-cluster://a,b/1", UrlError::DatabaseOfCluster),
        ("valkey-cluster://a,", UrlError::NoHost),
        ("valkey-sentinel://a:1,b", UrlError::NoPrimary),
        ("valkey-sentinel://a:1,b/main/x", UrlError::BadDatabase),
        ("valkey://h?ca=/a", UrlError::NotTls),
        ("valkey://h?sentinel_pass=p", parameter("sentinel_pass")),
        (
            "valkey-other://h",
            UrlError::UnknownScheme {
                scheme: "valkey-other".to_owned(),
            },
        ),
    ] {
        assert_eq!(shown(url), Err(expected), "{url}");
    }
}

#[test]
fn no_text_shows_the_password() {
    const SECRET: &str = "hunter2";
    let secret_letters = StoreUrl::parse("valkey://u:x?letters=1@h").unwrap_err();
    assert!(!secret_letters.to_string().contains("letters"));
    for url in [
        "valkey://u:hunter2@h",
        "valkey://:hunter2@h:1/2",
        "unix:///a?pass=hunter2",
        "valkey://u:hunter2/x@h",
        "valkey://u:hunter2#x@h",
        "valkey://u:x?hunter2=1@h",
        "valkey://u:x?hunter2@h",
        "valkey://u:hunter2%@h",
        "valkey://hunter2:x",
        "hunter2",
        "hunter2@h://x",
        "valkey-cluster://u:hunter2@h",
        "valkey-sentinel://u:hunter2@h/m?sentinel_pass=hunter2",
    ] {
        let text = match StoreUrl::parse(url) {
            Ok(url) => format!("{url} {url:?} {url:#?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!text.contains(SECRET), "{text}");
    }
}
