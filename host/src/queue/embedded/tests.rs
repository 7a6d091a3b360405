//! The embedded queue on a disk that fails when it is told to.

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, Database, ReadableDatabase, StorageBackend, TableHandle};
use tempfile::TempDir;

use super::file::File;
use super::*;
use crate::entry::{Record, Turn};
use crate::outcome::DeadReason;

const LEASE: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(30);
const MANY: NonZeroUsize = NonZeroUsize::new(100).unwrap();
const AT_ONCE: Duration = Duration::from_millis(1);

/// What befalls the disk.
#[derive(Debug)]
struct Fate {
    is_full: AtomicBool,
    /// How many more reads succeed.
    reads_left: AtomicU64,
    opened: AtomicU64,
    /// Whether the file may be opened.
    may_open: Mutex<bool>,
    changed: Condvar,
}

impl Fate {
    fn fill(&self) {
        self.is_full.store(true, Ordering::Relaxed);
    }

    fn fail_after(&self, reads: u64) {
        self.reads_left.store(reads, Ordering::Relaxed);
    }

    fn mend(&self) {
        self.is_full.store(false, Ordering::Relaxed);
        self.fail_after(u64::MAX);
    }

    fn let_open(&self, may: bool) {
        *self.may_open.lock().unwrap() = may;
        self.changed.notify_all();
    }

    fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Disk {
    file: FileBackend,
    fate: Arc<Fate>,
}

impl Disk {
    fn takes(&self) -> io::Result<()> {
        if self.fate.is_full.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let one_less = |left: u64| left.checked_sub(1);
        let left = self.fate.reads_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        left.map_err(|_| io::Error::other("the disk cannot be read"))?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.takes()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.takes()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// A queue on such a disk.
struct World {
    directory: TempDir,
    fate: Arc<Fate>,
}

impl World {
    fn new() -> World {
        let (is_full, reads_left) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        let (opened, may_open, changed) = (AtomicU64::new(0), Mutex::new(true), Condvar::new());
        let fate = Fate { is_full, reads_left, opened, may_open, changed };
        World { directory: tempfile::tempdir().unwrap(), fate: Arc::new(fate) }
    }

    fn open(&self) -> Embedded {
        let fate = Arc::clone(&self.fate);
        let opener = move |path: &Path| {
            let may_open = fate.may_open.lock().unwrap();
            drop(fate.changed.wait_timeout_while(may_open, DEADLINE, |may_open| !*may_open).unwrap());
            fate.opened.fetch_add(1, Ordering::Relaxed);
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            let disk = Disk { file: FileBackend::new(file)?, fate: Arc::clone(&fate) };
            // Nothing is kept in memory: all reads are of the disk.
            Database::builder().set_cache_size(0).create_with_backend(disk)
        };
        let file = File::open_by(self.directory.path().join("queue.redb"), Box::new(opener)).unwrap();
        Embedded::over(Store::over(file), self.directory.path(), LEASE, 5).unwrap()
    }

    /// The names of the tables in the file of a queue that was closed.
    fn tables(&self) -> Vec<String> {
        let database = Database::open(self.directory.path().join("queue.redb")).unwrap();
        let transaction = database.begin_read().unwrap();
        transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect()
    }
}

async fn eventually<T, E: std::fmt::Debug>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let started = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(started.elapsed() < DEADLINE, "it still fails: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether it answers at once that the disk is full.
async fn is_refused<T: std::fmt::Debug>(asked: impl Future<Output = Result<T, Error>>) -> bool {
    let answer = tokio::time::timeout(DEADLINE / 2, asked).await.expect("nobody waits for the file");
    answer.is_err_and(|error| error.to_string().contains("the disk is full"))
}

fn events(names: &[&'static str]) -> Vec<Bytes> {
    names.iter().map(|name| Bytes::from_static(name.as_bytes())).collect()
}

/// What begins with an `o` has an order.
fn turns() -> Turns {
    Arc::new(|entry| {
        let Content::Fields(fields) = &entry.content else { return None };
        let stored = fields[0].1.clone();
        stored.starts_with(b"o").then(|| Turn { line: "line".to_owned(), stored })
    })
}

fn ids(entries: &[Entry]) -> Vec<EntryId> {
    entries.iter().map(|entry| entry.handle.id).collect()
}

#[tokio::test]
async fn what_a_cursor_had_passed_comes_again_when_the_line_beside_it_could_not_be_recorded() {
    let world = World::new();
    let queue = world.open().with_turns(turns());
    let passed = queue.publish(&events(&["free"])).await.unwrap()[0];
    let handle = Handle { id: passed, stream: Stream::Events, place: Place::Stream };
    // It is about to be moved ahead while the cursor passes it, and is not moved in the end.
    queue.shared.state().begin_move(&[(handle, Bytes::new())]);
    assert_eq!(queue.receive(0, MANY, AT_ONCE).await.unwrap(), []);
    queue.shared.state().end_move(&[handle], false);
    queue.publish(&events(&["ordered"])).await.unwrap();
    world.fate.fill();
    assert!(is_refused(queue.receive(0, MANY, AT_ONCE)).await);
    world.fate.mend();
    let received = eventually(async || match queue.receive(0, MANY, AT_ONCE).await {
        Ok(entries) if entries.is_empty() => Err("nothing".to_owned()),
        received => received.map_err(|error| error.to_string()),
    });
    assert_eq!(ids(&received.await), [passed]);
    assert_eq!(queue.take_due(MANY).await.unwrap().entries.len(), 1, "and the other one is the first of its line");
}

fn letter(original_id: EntryId) -> DeadLetter {
    DeadLetter {
        event: Bytes::from_static(b"{}"),
        original_id,
        failed_at: SystemTime::now(),
        subscription_id: "s".to_owned(),
        reason: DeadReason::Exhausted,
        attempts: 4,
        last_status: Some(500),
        last_error: String::new(),
        first_seen: SystemTime::now(),
        replays: 0,
        died_before: Vec::new(),
        raw: Vec::new(),
    }
}

/// Two deliveries and two events wait, and three that are scheduled.
async fn with_some_of_each(world: &World) -> usize {
    let queue = world.open();
    queue.publish(&events(&["d1", "d2", "s1", "s2", "s3"])).await.unwrap();
    let all = queue.receive(0, MANY, AT_ONCE).await.unwrap();
    let settlements: Vec<Settlement> = all
        .iter()
        .enumerate()
        .map(|(number, entry)| {
            let later = || Record::Schedule { after: Duration::ZERO, stored: Bytes::from_static(b"stored") };
            let record = if number < 2 { Record::Dead(Box::new(letter(entry.handle.id))) } else { later() };
            Settlement { handle: entry.handle, record }
        })
        .collect();
    queue.settle(&settlements).await.unwrap();
    let page = queue.dead_letters(&Filter::default(), Start::Oldest, MANY).await.unwrap();
    let dead: Vec<EntryId> = page.letters.iter().map(|(id, _)| *id).collect();
    queue.replay(&dead).await.unwrap();
    queue.publish(&events(&["e1", "e2"])).await.unwrap();
    7
}

/// All that is handed out, with reads that fail after so many; and whether one failed.
async fn all_of(world: &World, reads: u64) -> (Vec<EntryId>, bool) {
    let queue = world.open();
    world.fate.let_open(false);
    world.fate.fail_after(reads);
    let (mut all, mut has_failed) = (Vec::new(), false);
    match queue.receive(0, MANY, AT_ONCE).await {
        Ok(entries) => all.extend(ids(&entries)),
        Err(_) => has_failed = true,
    }
    match queue.take_due(MANY).await {
        Ok(due) => all.extend(ids(&due.entries)),
        Err(_) => has_failed = true,
    }
    has_failed |= world.fate.reads_left.load(Ordering::Relaxed) == 0;
    world.fate.mend();
    world.fate.let_open(true);
    all.extend(ids(&eventually(async || queue.receive(0, MANY, AT_ONCE).await).await));
    all.extend(ids(&eventually(async || queue.take_due(MANY).await).await.entries));
    queue.leave().await.unwrap();
    all.sort_unstable();
    (all, has_failed)
}

#[tokio::test]
async fn wherever_a_read_fails_nothing_that_was_read_before_is_lost_from_hand() {
    let world = World::new();
    let count = with_some_of_each(&world).await;
    let (whole, _) = all_of(&world, u64::MAX).await;
    assert_eq!(whole.len(), count);
    for reads in 0.. {
        let (all, has_failed) = all_of(&world, reads).await;
        assert_eq!(all, whole, "after {reads} reads");
        if !has_failed {
            assert!(reads > 5, "some reads failed");
            return;
        }
    }
}

#[tokio::test]
async fn nobody_waits_while_a_file_that_failed_is_checked() {
    let world = World::new();
    let queue = world.open();
    queue.publish(&events(&["kept"])).await.unwrap();
    world.fate.let_open(false);
    world.fate.fill();
    assert!(is_refused(queue.publish(&events(&["refused"]))).await);
    world.fate.mend();
    // It is being opened, and that takes as long as it takes.
    assert!(is_refused(queue.receive(0, MANY, AT_ONCE)).await);
    assert!(is_refused(queue.take_due(MANY)).await);
    assert!(is_refused(queue.publish(&events(&["refused"]))).await);
    assert!(is_refused(queue.depth()).await);
    assert!(is_refused(queue.look_ahead(1, MANY)).await);
    world.fate.let_open(true);
    let received = eventually(async || queue.receive(0, MANY, AT_ONCE).await).await;
    assert_eq!(received.len(), 1);
    assert_eq!(eventually(async || queue.depth().await).await.pending, 1);
}

#[tokio::test]
async fn a_full_disk_does_not_have_the_file_checked_for_each_event() {
    let world = World::new();
    let queue = world.open();
    queue.publish(&events(&["kept"])).await.unwrap();
    world.fate.fill();
    let started = Instant::now();
    for _ in 0..100 {
        assert!(is_refused(queue.publish(&events(&["refused"]))).await);
        assert!(is_refused(queue.depth()).await);
    }
    // Once a second at most, and the first two times at once.
    let most = 3 + started.elapsed().as_secs();
    assert!(world.fate.opened() <= most, "{} in {:?}", world.fate.opened(), started.elapsed());
    world.fate.mend();
    eventually(async || queue.depth().await).await;
    queue.publish(&events(&["taken"])).await.unwrap();
}

#[tokio::test]
async fn nothing_stays_of_what_was_tried_to_see_whether_there_is_room() {
    let world = World::new();
    let queue = world.open();
    world.fate.fill();
    assert!(is_refused(queue.publish(&events(&["refused"]))).await);
    world.fate.mend();
    // Whoever asks has no time to wait for the answer.
    eventually(async || {
        drop(tokio::time::timeout(Duration::ZERO, queue.depth()).await);
        queue.shared.state().room.wanted().map_or(Ok(()), Err)
    })
    .await;
    drop(queue);
    assert!(!world.tables().contains(&"tried".to_owned()), "{:?}", world.tables());
}

#[tokio::test]
async fn what_an_earlier_version_left_of_a_try_is_taken_away() {
    let world = World::new();
    drop(world.open());
    {
        let database = Database::open(world.directory.path().join("queue.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(tables::TRIED).unwrap().insert((), [0; 1000].as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    assert!(world.tables().contains(&"tried".to_owned()));
    drop(world.open());
    assert!(!world.tables().contains(&"tried".to_owned()));
}

#[test]
fn a_file_that_is_gone_is_not_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue.redb");
    let file = File::open(directory.path()).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.failed(file.opened(), redb::Error::Io(std::io::Error::other("the disk is gone")));
    file.reopen();
    assert!(matches!(file.why_closed(), Some(Error::Unavailable { .. })));
    assert!(!path.exists());

    // Nor is what a link leads to, and the link stays.
    std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
    assert!(matches!(File::open(directory.path()), Err(Error::Unavailable { .. })));
    assert!(path.is_symlink() && !path.exists());
}
