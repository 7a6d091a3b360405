//! Plugin state in a file beside the embedded queue. One thread writes: it gathers what waits into one transaction and
//! commits it once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::{OpenError, millis};
use crate::state::{Act, Answer, ENTRY_BYTES, Error, Request};
use crate::stored::unix_ms;
use file::{File, Opener};

mod file;

const FILE: &str = "state.redb";
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Acts that may wait for the next commit.
const BACKLOG: usize = 1024;
/// Acts in one transaction.
const BATCH_MAX: usize = 256;
/// Keys that have ended and are forgotten with each act.
const FORGOTTEN_MAX: usize = 100;
/// Digits of a number, with its sign.
const NUMBER_BYTES: u64 = 20;

const UNPOISONED: &str = "nothing panics while it is locked";

/// Plugin and key.
type Key = (&'static str, &'static str);
/// When it ends (0 for never, in milliseconds since the Unix epoch), and what is kept.
type Kept = (u64, &'static [u8]);
/// When it ends, plugin and key.
type End = (u64, &'static str, &'static str);

const VALUES: TableDefinition<'_, Key, Kept> = TableDefinition::new("values");
const ENDS: TableDefinition<'_, End, ()> = TableDefinition::new("ends");
const BYTES: TableDefinition<'_, &'static str, u64> = TableDefinition::new("bytes");

/// What time it is.
#[derive(Debug, Clone)]
enum Clock {
    /// As this machine has it.
    Machine,
    /// As somebody sets it.
    Hands(Arc<AtomicU64>),
}

impl Clock {
    fn now(&self) -> u64 {
        match self {
            Clock::Machine => unix_ms(SystemTime::now()),
            Clock::Hands(hands) => hands.load(Ordering::Relaxed),
        }
    }
}

type Done = oneshot::Sender<Result<Answer, Error>>;

/// The store.
pub(super) struct Embedded {
    path: PathBuf,
    clock: Clock,
    /// `None` once it is closed.
    open: RwLock<Option<Open>>,
}

struct Open {
    file: Arc<File>,
    acts: mpsc::Sender<(Request, Done)>,
    writer: std::thread::JoinHandle<()>,
}

impl Embedded {
    pub(super) fn open(directory: &Path) -> Result<Embedded, OpenError> {
        let path = directory.join(FILE);
        let failed = |why: String| OpenError::File { path: path.display().to_string(), why };
        std::fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
        let file = path.clone();
        let opener = move || Database::builder().set_cache_size(CACHE_BYTES).create(&file);
        Embedded::over(Box::new(opener), path, Clock::Machine)
    }

    /// There is no disk that could fail.
    pub(super) fn in_memory(hands: Arc<AtomicU64>) -> Result<Embedded, OpenError> {
        let memory = || Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(InMemoryBackend::new());
        Embedded::over(Box::new(memory), PathBuf::from("memory"), Clock::Hands(hands))
    }

    fn over(opener: Opener, path: PathBuf, clock: Clock) -> Result<Embedded, OpenError> {
        let failed = |why: String| OpenError::File { path: path.display().to_string(), why };
        let file = Arc::new(File::open(opener).map_err(|error| failed(error.to_string()))?);
        let (acts, waiting) = mpsc::channel(BACKLOG);
        let (written, time) = (Arc::clone(&file), clock.clone());
        let thread = std::thread::Builder::new().name("weft-state".to_owned());
        let writer =
            thread.spawn(move || write(&written, &time, waiting)).map_err(|error| failed(error.to_string()))?;
        Ok(Embedded { path, clock, open: RwLock::new(Some(Open { file, acts, writer })) })
    }

    /// The thread ends when nobody can send any more; the file is free again when it has ended.
    pub(super) fn close(&self) {
        let open = self.open.write().expect(UNPOISONED).take();
        if let Some(Open { file, acts, writer }) = open {
            drop((file, acts));
            let _ = writer.join();
        }
    }

    pub(super) async fn perform(&self, request: Request) -> Result<Answer, Error> {
        // What cannot be read here, the writer reads when it has opened the file again.
        if request.act == Act::Get
            && let Some(answer) = self.read(&request)
        {
            return Ok(answer);
        }
        let gone = || self.unavailable("it is closed");
        let (done, answer) = oneshot::channel();
        let acts = self.open.read().expect(UNPOISONED).as_ref().map(|open| open.acts.clone());
        let acts = acts.ok_or_else(gone)?;
        acts.send((request, done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Why nothing can be kept now, if so. Where something failed, it is tried again first.
    pub(super) async fn failure(&self) -> Option<String> {
        self.noted()?;
        let (plugin, key) = (Arc::from(""), String::new());
        // It says in the end how that went.
        let _ = self.perform(Request { plugin, key, act: Act::Delete, quota: 0 }).await;
        self.noted().map(|why| format!("{}: {why}", self.path.display()))
    }

    fn noted(&self) -> Option<String> {
        self.open.read().expect(UNPOISONED).as_ref().and_then(|open| open.file.failure())
    }

    fn read(&self, request: &Request) -> Option<Answer> {
        let open = self.open.read().expect(UNPOISONED);
        open.as_ref()?.file.read(|database| {
            let values = database.begin_read()?.open_table(VALUES)?;
            let kept = values.get((&*request.plugin, &*request.key))?;
            let value = kept.and_then(|kept| {
                let (end, value) = kept.value();
                (end == 0 || end > self.clock.now()).then(|| Bytes::copy_from_slice(value))
            });
            Ok(Answer::Value(value))
        })
    }

    fn unavailable(&self, why: &str) -> Error {
        Error::Unavailable(format!("{}: {why}", self.path.display()))
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(VALUES)?;
    transaction.open_table(ENDS)?;
    transaction.open_table(BYTES)?;
    transaction.commit()?;
    Ok(())
}

/// Until nobody can send any more.
fn write(file: &File, clock: &Clock, mut waiting: mpsc::Receiver<(Request, Done)>) {
    let mut gathered = Vec::with_capacity(BATCH_MAX);
    while waiting.blocking_recv_many(&mut gathered, BATCH_MAX) > 0 {
        let mut answers = Vec::with_capacity(gathered.len());
        let written = file.work(|database| batch(database, clock.now(), &gathered, &mut answers));
        for (at, (_, done)) in gathered.drain(..).enumerate() {
            let answer = match &written {
                Ok(()) => answers[at].clone(),
                Err(why) => Err(Error::Unavailable(format!("{FILE}: {why}"))),
            };
            // Who went away needs no answer.
            let _ = done.send(answer);
        }
    }
}

fn batch(
    database: &Database,
    now: u64,
    acts: &[(Request, Done)],
    answers: &mut Vec<Result<Answer, Error>>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction, now)?;
        for (request, _) in acts {
            answers.push(tables.perform(request)?);
        }
    }
    transaction.commit()?;
    Ok(())
}

struct Tables<'t> {
    values: Table<'t, Key, Kept>,
    ends: Table<'t, End, ()>,
    bytes: Table<'t, &'static str, u64>,
    now: u64,
}

/// What is kept under a key.
struct Found {
    end: u64,
    value: Vec<u8>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction, now: u64) -> Result<Tables<'t>, redb::Error> {
        Ok(Tables {
            values: transaction.open_table(VALUES)?,
            ends: transaction.open_table(ENDS)?,
            bytes: transaction.open_table(BYTES)?,
            now,
        })
    }

    fn perform(&mut self, request: &Request) -> Result<Result<Answer, Error>, redb::Error> {
        self.forget_ended()?;
        let found = self.find(request)?;
        let Request { act, .. } = request;
        match act {
            Act::Get => Ok(Ok(Answer::Value(found.map(|found| found.value.into())))),
            Act::Delete => {
                self.forget(&request.plugin, &request.key)?;
                Ok(Ok(Answer::Done))
            }
            Act::SetIfAbsent { .. } if found.is_some() => Ok(Ok(Answer::Kept(false))),
            Act::SetIfAbsent { value, lifetime } | Act::Set { value, lifetime } => {
                if !self.has_room(request, found.as_ref(), value.len() as u64)? {
                    return Ok(Err(Error::Quota));
                }
                self.keep(request, self.end(*lifetime), value)?;
                Ok(Ok(if matches!(act, Act::Set { .. }) { Answer::Done } else { Answer::Kept(true) }))
            }
            Act::Increment { by, lifetime } => {
                let before = found.as_ref().map_or(Some(0), |found| number(&found.value));
                let Some(sum) = before.and_then(|before| before.checked_add(*by)) else {
                    return Ok(Err(Error::NotANumber));
                };
                // One that is there may grow: it counted from the start as if it were as long as can be.
                if found.is_none() && !self.has_room(request, None, NUMBER_BYTES)? {
                    return Ok(Err(Error::Quota));
                }
                let end = found.map_or_else(|| self.end(*lifetime), |found| found.end);
                self.keep(request, end, sum.to_string().as_bytes())?;
                Ok(Ok(Answer::Number(sum)))
            }
        }
    }

    fn find(&mut self, request: &Request) -> Result<Option<Found>, redb::Error> {
        let kept = self.values.get((&*request.plugin, &*request.key))?;
        let found = kept.map(|kept| {
            let (end, value) = kept.value();
            Found { end, value: value.to_vec() }
        });
        let has_ended = found.as_ref().is_some_and(|found| found.end != 0 && found.end <= self.now);
        if has_ended {
            self.forget(&request.plugin, &request.key)?;
        }
        Ok(found.filter(|_| !has_ended))
    }

    /// Whether a value of so many bytes may take the place of what is there. Making it smaller is always possible.
    fn has_room(&self, request: &Request, before: Option<&Found>, size: u64) -> Result<bool, redb::Error> {
        let freed = before.map_or(0, |before| before.value.len() as u64 + entry_bytes(&request.key));
        let wanted = size + entry_bytes(&request.key);
        Ok(wanted <= freed || self.used(&request.plugin)?.saturating_sub(freed) + wanted <= request.quota)
    }

    fn keep(&mut self, request: &Request, end: u64, value: &[u8]) -> Result<(), redb::Error> {
        let (plugin, key) = (&*request.plugin, request.key.as_str());
        self.forget(plugin, key)?;
        self.values.insert((plugin, key), (end, value))?;
        if end != 0 {
            self.ends.insert((end, plugin, key), ())?;
        }
        let used = self.used(plugin)? + value.len() as u64 + entry_bytes(key);
        self.bytes.insert(plugin, used)?;
        Ok(())
    }

    fn forget(&mut self, plugin: &str, key: &str) -> Result<(), redb::Error> {
        let removed = self.values.remove((plugin, key))?.map(|kept| {
            let (end, value) = kept.value();
            (end, value.len() as u64 + entry_bytes(key))
        });
        if let Some((end, freed)) = removed {
            self.ends.remove((end, plugin, key))?;
            let left = self.used(plugin)?.saturating_sub(freed);
            self.bytes.insert(plugin, left)?;
        }
        Ok(())
    }

    /// What has ended, of all plugins; a hundred keys at a time.
    fn forget_ended(&mut self) -> Result<(), redb::Error> {
        let mut ended = Vec::new();
        for end in self.ends.range(..(self.now + 1, "", ""))?.take(FORGOTTEN_MAX) {
            let (end, ()) = end.map(|(end, nothing)| (end, nothing.value()))?;
            let (_, plugin, key) = end.value();
            ended.push((plugin.to_owned(), key.to_owned()));
        }
        ended.iter().try_for_each(|(plugin, key)| self.forget(plugin, key))
    }

    fn used(&self, plugin: &str) -> Result<u64, redb::Error> {
        Ok(self.bytes.get(plugin)?.map(|bytes| bytes.value()).unwrap_or_default())
    }

    fn end(&self, lifetime: Option<Duration>) -> u64 {
        lifetime.map_or(0, |lifetime| self.now.saturating_add(millis(lifetime)))
    }
}

fn entry_bytes(key: &str) -> u64 {
    key.len() as u64 + ENTRY_BYTES
}

/// As Redis reads one: no leading zeros, plus signs or spaces.
fn number(value: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == value).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// A file on a disk that fails while it is told to.
    #[derive(Debug)]
    struct Disk {
        file: std::fs::File,
        fails: Arc<AtomicBool>,
    }

    impl Disk {
        fn works(&self) -> std::io::Result<()> {
            if self.fails.load(Ordering::Relaxed) { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl redb::StorageBackend for Disk {
        fn len(&self) -> std::io::Result<u64> {
            Ok(self.file.metadata()?.len())
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.file.read_exact_at(out, offset)
        }

        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.works()?;
            self.file.set_len(len)
        }

        fn sync_data(&self) -> std::io::Result<()> {
            self.works()?;
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.works()?;
            self.file.write_all_at(data, offset)
        }
    }

    async fn ask(store: &Embedded, key: &str, act: Act) -> Result<Answer, Error> {
        store.perform(Request { plugin: "p".into(), key: key.to_owned(), act, quota: 1 << 20 }).await
    }

    async fn goes_on(store: &Embedded, key: &str, act: Act) -> Answer {
        for _ in 0..600 {
            match ask(store, key, act.clone()).await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("it stays dead: {:?}", store.noted());
    }

    #[tokio::test]
    async fn after_a_write_that_failed_state_goes_on_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let (path, fails) = (directory.path().join(FILE), Arc::new(AtomicBool::new(false)));
        let (place, is_broken) = (path.clone(), Arc::clone(&fails));
        let opener = move || {
            let file = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&place);
            let disk = Disk { file: file.expect("a file"), fails: Arc::clone(&is_broken) };
            Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(disk)
        };
        let store = Embedded::over(Box::new(opener), path, Clock::Machine).unwrap();
        let set = |text: &'static str| Act::Set { value: Bytes::from_static(text.as_bytes()), lifetime: None };
        let kept = |text: &'static str| Answer::Value(Some(Bytes::from_static(text.as_bytes())));
        assert_eq!(ask(&store, "before", set("1")).await, Ok(Answer::Done));
        assert_eq!(store.failure().await, None);

        fails.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            assert!(matches!(ask(&store, "meanwhile", set("2")).await, Err(Error::Unavailable(_))));
        }
        assert!(store.failure().await.is_some_and(|why| why.contains(FILE)));

        fails.store(false, Ordering::Relaxed);
        // Also for a plugin that does nothing but read.
        assert_eq!(goes_on(&store, "before", Act::Get).await, kept("1"));
        assert_eq!(store.failure().await, None);
        assert_eq!(goes_on(&store, "after", set("3")).await, Answer::Done);
        assert_eq!(ask(&store, "after", Act::Get).await, Ok(kept("3")));
    }
}
