//! The configuration as operators meet it: a file, the environment, and mistakes.

use std::path::Path;

use tests::certificates::Certificates;
use tests::root;
use weft::Config;

fn load(file: &Path, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(file), environment).map_err(|mistakes| mistakes.0.iter().map(ToString::to_string).collect())
}

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weft.toml");
    std::fs::write(&file, text).unwrap();
    load(&file, environment).map_err(|mistakes| {
        let prefix = directory.path().display().to_string() + "/";
        mistakes.into_iter().map(|mistake| mistake.replace(&prefix, "")).collect()
    })
}

#[test]
fn the_example_is_the_defaults() {
    let example = load(&root().join("weft.example.toml"), &[]).expect("it is good");
    assert_eq!(format!("{example:?}"), format!("{:?}", Config::default()));
    assert_eq!(example.queue.url, Config::default().queue.url);
}

#[test]
fn the_examples_commented_keys_are_keys() {
    let text = std::fs::read_to_string(root().join("weft.example.toml")).unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') || rest.contains(" = ") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    let file_of = format!("{{ file = {:?} }}", secret.display().to_string());
    let with_files = ["WEFT_HMAC_SECRET", "SUB_67890_SECRET", "WEFT_TOKEN"]
        .iter()
        .fold(uncommented, |text, name| text.replace(&format!("{{ env = \"{name}\" }}"), &file_of));
    // A variable that is set everywhere.
    let with_files = with_files.replace("[\"REGION\"]", "[\"PATH\"]");
    // Files that are looked into.
    let certificates = Certificates::new();
    let with_files = with_files.replace("\"ca.pem\"", &format!("{:?}", certificates.ca().display().to_string()));
    let config = read(&with_files, &[]).expect("all keys are known");
    let subscription = &config.subscriptions["sub-67890"];
    assert!(subscription.plugins.is_some() && subscription.signatures.is_some() && subscription.hmac_secret.is_some());
    assert!(subscription.timeout.is_some() && subscription.max_retries.is_some() && subscription.in_flight.is_some());
    assert!(subscription.retry_backoff.is_some() && subscription.max_backoff.is_some());
    assert!(subscription.rate.is_some() && subscription.burst.is_some() && subscription.disable_after.is_some());
    assert!(subscription.breaker_failures.is_some() && subscription.breaker_open.is_some());
    assert!(subscription.tenant.is_some() && config.defaults.tenant.is_some());
    assert!(subscription.ordering.is_some() && subscription.disable_on_gone == Some(false));
    assert_eq!((config.admin.tokens.len(), config.plugins.named.len()), (1, 1));
    assert!(config.delivery.hmac_secret.is_some() && config.plugins.cache_dir.is_some());
    assert!(config.queue.retention.is_some() && config.egress.tls_ca.is_some());
}

#[test]
fn all_mistakes_are_reported_at_once_each_with_its_place_and_mend() {
    let text = "[queue]\nurl = \"postgres://h\"\n\n[delivery]\nmax_retires = 3\ntimeout = \"ten seconds\"\n\n[egress]\nallow = [\"10.0.0.0/40\"]\n";
    let mistakes = read(text, &[]).unwrap_err();
    assert_eq!(mistakes.len(), 4, "{mistakes:#?}");
    let expected = [
        ["weft.toml:5", "delivery.max_retires", "did you mean max_retries?"],
        ["weft.toml:6", "delivery.timeout", "\"10s\""],
        ["weft.toml:9", "egress.allow[0]", "\"10.0.0.0/8\""],
        ["", "queue.url", "embedded:DIRECTORY"],
    ];
    for parts in expected {
        assert!(
            mistakes.iter().any(|mistake| parts.iter().all(|part| mistake.contains(part))),
            "{parts:?} in {mistakes:#?}"
        );
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for (text, part) in [
        ("[delivery]\nworker_count = 0", "from 1 to 1024"),
        ("[delivery]\nworker_count = \"ten\"", "a whole number"),
        ("[delivery]\nmax_retries = -1", "a whole number"),
        ("[delivery]\ntimeout = 10", "durations are texts"),
        ("[delivery]\ntimeout = \"0s\"", "longer than nothing"),
        ("[delivery]\ntimeout = \"101years\"", "at most 100 years"),
        ("[queue]\ndead_after = \"2s\"", "set it to 3s or more"),
        ("[queue]\nheartbeat = \"30s\"", "set it to 1m 30s or more"),
        ("[delivery]\nbody_bytes_max = \"1 elephant\"", "sizes look like"),
        ("[delivery]\nbody = \"xml\"", "seed, verbatim"),
        ("[delivery]\nhmac_secret = \"\"", "empty"),
        ("[delivery]\nhmac_secret = { env = \"NOT_SET_ANYWHERE\" }", "NOT_SET_ANYWHERE is not set"),
        ("[delivery]\nhmac_secret = { file = \"/no/such/file\" }", "/no/such/file"),
        ("[delivery]\nmax_backoff = \"10ms\"", "shorter than retry_backoff"),
        ("[defaults]\nsignatures = [\"md5\"]", "o2ims"),
        ("[defaults]\nrate = \"fast\"", "rates look like \"100/s\""),
        ("[defaults]\nrate = \"0/s\"", "rates look like"),
        ("[subscriptions.s]\nburst = 0", "from 1 to"),
        ("[defaults]\ntenant = \"\"", "a tenant's name has 1 to 256 bytes"),
        ("[subscriptions.s]\ntenant = \"a\\u0007\"", "no control characters"),
        ("[plugins.named.a]\nhttp = { allow = [\"api.example.com\"] }", "https://api.example.com"),
        ("[plugins.named.a]\nhttp = { allow = [\"https://api.example.com/v1\"] }", "no path"),
        ("[plugins.named.a]\nhttp = { allowed = [] }", "did you mean allow?"),
        ("[plugins.named.a]\nhttp = true", "a table is expected"),
        ("[plugins.named.a]\nsha256 = \"abc\"", "it has 3 digits; 64 hex digits are expected"),
        ("[plugins.named.a]\nsha256 = \"zz\"", "'z' is no hex digit"),
        ("[defaults]\ndisable_on_gone = \"yes\"", "true or false"),
        ("[defaults]\nplugins = [{ settings = {} }]", "name"),
        ("[defaults]\nplugins = [{ name = \"a\", on_error = \"explode\" }]", "retry, deliver, drop"),
        ("[subscriptions.\"s\"]\nplugin = [\"a\"]", "did you mean plugins?"),
        ("[queue]\ndead_letters = \"o2ims:events\"", "a key of its own"),
        (
            "[queue]\nurl = \"redis+cluster://h\"",
            "queue.events = \"{o2ims}:events\", queue.deliveries = \"{o2ims}:deliveries\"",
        ),
        (
            "[queue]\nurl = \"redis+cluster://h\"\nevents = \"{a}:x\"\ndeliveries = \"{b}:y\"",
            "queue.deliveries = \"{a}:b:y\"",
        ),
        ("[queue]\nurl = \"redis+sentinel://h\"", "mymaster"),
        ("[queue]\nurl = \"redis://h\"\nshards = 2", "queue.events = \"{o2ims}:events\""),
        ("[queue]\nurl = \"redis://h\"\nshards = 11", "set it to 11 or more"),
        ("[queue]\nshards = 2", "are for Redis"),
        ("[queue]\nurl = \"redis://h\"\ntls_ca = \"ca.pem\"", "begin with rediss"),
        ("[queue]\nurl = \"rediss://h\"\ntls_ca = \"/no/such/file\"", "/no/such/file"),
        ("[egress]\ntls_ca = \"/no/such/file\"", "/no/such/file"),
        ("[egress]\ntls_ca = \"/dev/null\"", "no certificate in it"),
        ("[queue]\nurl = \"rediss://h\"\ntls_cert = \"/dev/null\"", "give both or none"),
        ("[admin]\nlisten = \"0.0.0.0:8090\"", "needs a token"),
        ("[admin]\nlisten = \"nowhere\"", "127.0.0.1:8090"),
        ("[admin]\ntokens = [{ name = \"a\" }]", "secret"),
        ("[nonsense]\n", "known here are"),
        ("[queue\n", "weft.toml:1"),
        ("delivery = 3", "a table is expected"),
    ] {
        let mistakes = read(text, &[]).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert!(mistakes.iter().any(|mistake| mistake.contains(part)), "{text}: {part:?} in {mistakes:#?}");
    }
}

#[test]
fn the_environment_goes_over_the_file() {
    let text = "[delivery]\nworker_count = 3\n[subscriptions.s]\ntimeout = \"1s\"";
    let config = read(
        text,
        &[
            ("WEFT_DELIVERY__WORKER_COUNT", "5"),
            ("WEFT_DELIVERY__TIMEOUT", "3s"),
            ("WEFT_EGRESS__ALLOW", "10.0.0.0/8, fd00::/8"),
            ("WEFT_DELIVERY__HMAC_SECRET", "s3cret"),
            ("WEFT_SUBSCRIPTIONS__S__MAX_RETRIES", "7"),
            ("WEFT_LOG_FORMAT", "json"),
            ("PATH", "/bin"),
        ],
    )
    .expect("good");
    assert_eq!((config.delivery.worker_count, config.delivery.timeout.as_secs()), (5, 3));
    assert_eq!(config.egress.allow.len(), 2);
    assert!(config.delivery.hmac_secret.is_some());
    assert_eq!(config.subscriptions["s"].max_retries, Some(7));
    let mistakes = read("", &[("WEFT_DELIVERY__WORKER_COUT", "5")]).unwrap_err();
    assert!(mistakes[0].contains("WEFT_DELIVERY__WORKER_COUT") && mistakes[0].contains("worker_count"), "{mistakes:?}");
}
