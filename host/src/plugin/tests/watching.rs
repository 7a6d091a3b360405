//! A directory that changes while it is watched.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Watches with short waits, so that what happens is due to what was told, not to a rescan.
fn watched(names: &[&str]) -> Fixture {
    Fixture::of(names).with(|config| {
        config.pace.settle = Duration::from_millis(30);
        config.pace.gone_after = Duration::from_millis(200);
    })
}

impl Fixture {
    async fn watch(&self, first: &[&str]) -> Plugins {
        let first = first.iter().map(|name| (*name).to_owned()).collect();
        Plugins::watch(self.config.clone(), first).await.unwrap()
    }

    /// Straight over what is there. Where much else is written it may be seen for a while when it has begun only.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.config.dir.join(name), content).unwrap();
    }

    /// Whole.
    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write(".half.wasm", content);
        self.rename(".half.wasm", name);
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.config.dir.join(from), self.config.dir.join(to)).unwrap();
    }
}

fn status(plugins: &Plugins, name: &str) -> Option<Status> {
    plugins.list().into_iter().find(|status| status.name == name)
}

fn is_ready(plugins: &Plugins, name: &str) -> bool {
    status(plugins, name).is_some_and(|status| status.state == State::Ready)
}

fn rejected(plugins: &Plugins, name: &str) -> Option<Refusal> {
    status(plugins, name)?.rejected.map(|rejected| rejected.why)
}

async fn until(what: &str, plugins: &Plugins, holds: impl Fn(&Plugins) -> bool) {
    let mut changes = plugins.changes();
    let wait = async {
        while !holds(plugins) {
            changes.changed().await.unwrap();
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "{what}: {:?}", plugins.list());
}

async fn ending(plugins: &Plugins, name: &str) -> Ending {
    run(plugins, &[name]).await.1[0]
}

#[tokio::test]
async fn a_file_that_appears_is_a_plugin() {
    let fixture = watched(&[]);
    let plugins = fixture.watch(&[]).await;
    assert!(plugins.list().is_empty());
    fixture.write("p.wasm", wasm("deliver"));
    until("ready", &plugins, |plugins| is_ready(plugins, "p")).await;
    assert_eq!(ending(&plugins, "p").await, Ending::Deliver);
    let usage = status(&plugins, "p").unwrap().usage.unwrap();
    assert_eq!((usage.calls, usage.endings), (1, vec![(Ending::Deliver, 1)]));
    assert!(usage.memory_max > 0);
}

#[tokio::test]
async fn a_file_that_changes_is_swapped_in_whole() {
    let fixture = watched(&["deliver"]);
    let plugins = fixture.watch(&[]).await;
    until("ready", &plugins, |plugins| is_ready(plugins, "deliver")).await;
    let first = status(&plugins, "deliver").unwrap().digest;

    fixture.put("deliver.wasm", wasm("drop"));
    until("renamed over", &plugins, |plugins| status(plugins, "deliver").unwrap().digest != first).await;
    assert_eq!(ending(&plugins, "deliver").await, Ending::Drop);
    assert_eq!(status(&plugins, "deliver").unwrap().usage.unwrap().calls, 1, "another content counts anew");

    fixture.write("deliver.wasm", wasm("deliver"));
    until("written over", &plugins, |plugins| status(plugins, "deliver").unwrap().digest == first).await;
    assert_eq!(ending(&plugins, "deliver").await, Ending::Deliver);
}

#[tokio::test]
async fn a_half_written_file_waits_for_its_other_half() {
    let fixture = watched(&["deliver"]);
    let plugins = fixture.watch(&[]).await;
    until("ready", &plugins, |plugins| is_ready(plugins, "deliver")).await;
    let whole = wasm("drop");
    fixture.write("deliver.wasm", &whole[..whole.len() / 2]);
    until("refused", &plugins, |plugins| matches!(rejected(plugins, "deliver"), Some(Refusal::Invalid(_)))).await;
    assert_eq!(ending(&plugins, "deliver").await, Ending::Deliver, "the good one goes on");
    fixture.write("deliver.wasm", &whole);
    until("mended", &plugins, |plugins| rejected(plugins, "deliver").is_none()).await;
    assert_eq!(ending(&plugins, "deliver").await, Ending::Drop);
}

#[tokio::test]
async fn nothing_bad_replaces_what_is_good() {
    let fixture = watched(&["deliver"]);
    let plugins = fixture.watch(&[]).await;
    until("ready", &plugins, |plugins| is_ready(plugins, "deliver")).await;
    let good = status(&plugins, "deliver").unwrap().digest;
    let is_other = |refusal: &Refusal| matches!(refusal, Refusal::NoFilter(_));
    let other_world = wat::parse_str("(component)").unwrap();
    type Is = fn(&Refusal) -> bool;
    let cases: [(Vec<u8>, Is); 4] = [
        (b"garbage".to_vec(), |refusal| *refusal == Refusal::NotWasm),
        (other_world, is_other),
        (
            wasm("wants-http"),
            |refusal| matches!(refusal, Refusal::NotGranted(list) if list[0].starts_with("wasi:http")),
        ),
        (wasm("endless-start"), |refusal| matches!(refusal, Refusal::Lifeless(why) if why.contains("cpu_max"))),
    ];
    for (content, expected) in cases {
        fixture.put("deliver.wasm", content);
        until("refused", &plugins, |plugins| rejected(plugins, "deliver").is_some_and(|why| expected(&why))).await;
        let status = status(&plugins, "deliver").unwrap();
        assert_eq!((status.state, &status.digest), (State::Ready, &good));
        assert_eq!(ending(&plugins, "deliver").await, Ending::Deliver);
    }
    fixture.put("other.wasm", wasm("drop"));
    until("another", &plugins, |plugins| is_ready(plugins, "other")).await;
    fixture.put("deliver.wasm", wasm("deliver"));
    until("as it was", &plugins, |plugins| rejected(plugins, "deliver").is_none()).await;
    let usage = status(&plugins, "deliver").unwrap().usage.unwrap();
    assert_eq!(usage.calls, 4, "it is the same version as before");
    assert_eq!(plugins.loads(), Loads { taken: 2, refused: 4 });
}

#[tokio::test]
async fn a_plugin_goes_with_its_file_but_not_at_once() {
    let fixture = watched(&["deliver", "drop"]).with(|config| config.pace.gone_after = Duration::from_secs(3600));
    let plugins = fixture.watch(&[]).await;
    until("ready", &plugins, |plugins| is_ready(plugins, "deliver") && is_ready(plugins, "drop")).await;
    fs::remove_file(fixture.config.dir.join("deliver.wasm")).unwrap();
    fixture.write("more.wasm", wasm("drop"));
    until("seen", &plugins, |plugins| is_ready(plugins, "more")).await;
    assert_eq!(ending(&plugins, "deliver").await, Ending::Deliver, "some tools delete before they write");

    let fixture = watched(&["deliver", "drop"]);
    let plugins = fixture.watch(&[]).await;
    until("ready", &plugins, |plugins| is_ready(plugins, "deliver") && is_ready(plugins, "drop")).await;
    fs::remove_file(fixture.config.dir.join("deliver.wasm")).unwrap();
    until("gone", &plugins, |plugins| status(plugins, "deliver").is_none()).await;
    assert_eq!(ending(&plugins, "deliver").await, Ending::Missing);
    assert_eq!(ending(&plugins, "drop").await, Ending::Drop);
}

#[tokio::test]
async fn a_call_ends_on_the_version_it_began_with() {
    let fixture = watched(&["loop"]).with(|config| {
        config.limits.cpu_max = Duration::from_secs(3600);
        config.limits.time_max = Duration::from_secs(3600);
    });
    let plugins = fixture.watch(&[]).await;
    until("ready", &plugins, |plugins| is_ready(plugins, "loop")).await;
    let first = status(&plugins, "loop").unwrap().digest;
    let old = run(&plugins, &["loop"]);
    let new = async {
        fixture.write("loop.wasm", wasm("deliver"));
        until("swapped", &plugins, |plugins| status(plugins, "loop").unwrap().digest != first).await;
        ending(&plugins, "loop").await
    };
    tokio::select! {
        biased;
        _ = old => panic!("it spins for an hour"),
        ending = new => assert_eq!(ending, Ending::Deliver),
    }
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_a_change() {
    // As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is replaced.
    let fixture = watched(&[]);
    for (version, content) in [("..1", "deliver"), ("..2", "drop")] {
        fs::create_dir(fixture.config.dir.join(version)).unwrap();
        fixture.write(&format!("{version}/p.wasm"), wasm(content));
    }
    symlink("..1", fixture.config.dir.join("..data")).unwrap();
    symlink("..data/p.wasm", fixture.config.dir.join("p.wasm")).unwrap();
    let plugins = fixture.watch(&[]).await;
    until("ready", &plugins, |plugins| is_ready(plugins, "p")).await;
    assert_eq!(ending(&plugins, "p").await, Ending::Deliver);
    let first = status(&plugins, "p").unwrap().digest;
    symlink("..2", fixture.config.dir.join("..new")).unwrap();
    fixture.rename("..new", "..data");
    until("changed", &plugins, |plugins| status(plugins, "p").unwrap().digest != first).await;
    assert_eq!(ending(&plugins, "p").await, Ending::Drop);
}

#[tokio::test]
async fn a_directory_that_appears_goes_and_comes_back_is_found_without_a_rescan() {
    let fixture = watched(&[]).with(|config| {
        config.dir.push("later");
        config.pace.rescan_every = Duration::from_secs(3600);
    });
    let plugins = fixture.watch(&[]).await;
    fs::create_dir(&fixture.config.dir).unwrap();
    fixture.write("p.wasm", wasm("deliver"));
    until("ready", &plugins, |plugins| is_ready(plugins, "p")).await;
    let away = fixture.config.dir.with_file_name("away");
    fs::rename(&fixture.config.dir, &away).unwrap();
    until("gone", &plugins, |plugins| plugins.list().is_empty()).await;
    fs::rename(&away, &fixture.config.dir).unwrap();
    until("back", &plugins, |plugins| is_ready(plugins, "p")).await;
}

#[tokio::test]
async fn another_directory_under_the_name_is_found_without_a_rescan() {
    // As releases are switched: the directory is a link, which is replaced.
    let fixture = watched(&[]).with(|config| config.pace.rescan_every = Duration::from_secs(3600));
    for (version, content) in [("1", "deliver"), ("2", "drop")] {
        fs::create_dir(fixture.config.dir.join(version)).unwrap();
        fixture.write(&format!("{version}/p.wasm"), wasm(content));
    }
    symlink("1", fixture.config.dir.join("current")).unwrap();
    let plugins =
        Plugins::watch(Config { dir: fixture.config.dir.join("current"), ..fixture.config.clone() }, BTreeSet::new());
    let plugins = plugins.await.unwrap();
    until("ready", &plugins, |plugins| is_ready(plugins, "p")).await;
    let first = status(&plugins, "p").unwrap().digest;
    symlink("2", fixture.config.dir.join("new")).unwrap();
    fixture.rename("new", "current");
    until("changed", &plugins, |plugins| status(plugins, "p").unwrap().digest != first).await;
    assert_eq!(ending(&plugins, "p").await, Ending::Drop);
}

/// Each has its state, and none holds up the next. Names are not what goes into a terminal.
#[tokio::test]
async fn what_is_no_file_of_a_plugin_is_refused_by_name() {
    let fixture = watched(&[]);
    let at = |name: &str| fixture.config.dir.join(name);
    fs::create_dir(at("directory.wasm")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("pipe.wasm")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(at("socket.wasm")).unwrap();
    symlink("/dev/zero", at("device.wasm")).unwrap();
    symlink("nowhere", at("broken.wasm")).unwrap();
    symlink("circle.wasm", at("circle.wasm")).unwrap();
    fs::File::create(at("large.wasm")).unwrap().set_len(100 << 20).unwrap();
    fixture.write("empty.wasm", "");
    for name in ["with space.wasm", "ünï.wasm", "new\nline.wasm", "\u{1b}[31mred.wasm", "UPPER.wasm"] {
        fixture.write(name, wasm("deliver"));
    }
    fixture.write("z.wasm", wasm("deliver"));
    let plugins = fixture.watch(&[]).await;
    until("all are looked into", &plugins, |plugins| {
        plugins.list().len() == 14 && plugins.list().iter().all(|status| status.state != State::Waiting)
    })
    .await;
    let why = |name: &str| match status(&plugins, name).unwrap().state {
        State::Refused(why) => why,
        state => panic!("{name}: {state:?}"),
    };
    for name in ["directory", "pipe", "socket", "device"] {
        assert_eq!(why(name), Refusal::Unreadable("not a file".to_owned()), "{name}");
    }
    for name in ["broken", "circle"] {
        assert!(matches!(why(name), Refusal::Unreadable(_)), "{name}");
    }
    assert_eq!(why("large"), Refusal::TooLarge { max: 32 << 20 });
    assert_eq!(why("empty"), Refusal::NotWasm);
    for name in ["with space", "ünï", "new\nline", "\u{1b}[31mred", "UPPER"] {
        assert_eq!(why(name), Refusal::BadName, "{name:?}");
    }
    assert!(is_ready(&plugins, "z"));
}

#[tokio::test]
async fn what_is_named_comes_first_and_the_rest_follows() {
    let names: Vec<String> = (0..40).map(|number| format!("p{number:02}")).collect();
    let fixture = watched(&[]);
    for name in &names {
        fixture.write(&format!("{name}.wasm"), wasm("deliver"));
    }
    let plugins = fixture.watch(&["p39", "absent"]).await;
    let first = BTreeSet::from(["p39".to_owned(), "absent".to_owned()]);
    until("the first", &plugins, |plugins| plugins.waiting(&first).is_empty()).await;
    assert!(is_ready(&plugins, "p39"));
    assert_eq!(ending(&plugins, "p39").await, Ending::Deliver);
    until("the rest", &plugins, |plugins| names.iter().all(|name| is_ready(plugins, name))).await;
}
