//! The embedded queue's file as a whole. After a read, a write or a sync that failed nobody can tell what is on the disk: the
//! file is closed, and what the disk has is read anew. That takes seconds for each million deliveries, so one thread does it
//! while nobody waits: whoever comes meanwhile is told why the file is closed.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use redb::{Database, DatabaseError};
use tokio::sync::Notify;

use super::tables::create_tables;
use crate::queue::Error;

const FILE: &str = "queue.redb";
/// Of pages in memory: enough for what a million deliveries touch again and again, and little beside what plugins may have.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// The shortest time from one opening to the next.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// And so many times as long as it took: a disk that goes on failing is not read all the time.
const REOPEN_PAUSE: u32 = 10;

/// How the file is opened.
type Opener = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send + Sync>;

pub(super) struct File {
    path: PathBuf,
    opener: Opener,
    state: RwLock<State>,
    /// Told when it was closed.
    closed: Notify,
}

struct State {
    database: Result<Database, Closed>,
    /// How often it was opened, so that nobody closes another one than what failed.
    opened: u64,
    /// From one opening to the next.
    pause: Duration,
    /// It is not opened again before this.
    not_before: Option<Instant>,
}

struct Closed {
    why: Error,
    retry_at: Instant,
}

impl File {
    /// Opens the file in a directory, or makes it. All of it is read and checked: what was damaged would else come up in the
    /// middle of a delivery.
    pub(super) fn open(directory: &Path) -> Result<File, Error> {
        let path = directory.join(FILE);
        make_if_absent(directory, &path).map_err(|error| storage_error(&path, error))?;
        File::open_by(path, Box::new(checked))
    }

    pub(super) fn open_by(path: PathBuf, opener: Opener) -> Result<File, Error> {
        let (database, pause) = open(&opener, &path);
        let state = State { database: Ok(database?), opened: 1, pause, not_before: None };
        Ok(File { path, opener, state: RwLock::new(state), closed: Notify::new() })
    }

    /// Works on the database, if it is open.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Error> {
        let state = self.read();
        let opened = state.opened;
        let worked = match &state.database {
            Ok(database) => work(database),
            Err(Closed { why, .. }) => return Err(why.clone()),
        };
        drop(state);
        worked.map_err(|error| self.failed(opened, error))
    }

    /// Which opening it is that one works on.
    pub(super) fn opened(&self) -> u64 {
        self.read().opened
    }

    /// What an error of that opening means; the file is closed if it can no longer be trusted.
    pub(super) fn failed(&self, opened: u64, error: redb::Error) -> Error {
        let is_broken = matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::Corrupted(_));
        // Whoever met the failure itself knows better than those who came after.
        let is_told = !matches!(error, redb::Error::PreviousIo);
        let why = storage_error(&self.path, error);
        if is_broken {
            let mut state = self.write();
            let is_it = state.opened == opened;
            match &mut state.database {
                // Dropping the database closes the file, so that it can be opened again.
                Ok(_) if is_it => {
                    let now = Instant::now();
                    let retry_at = state.not_before.map_or(now, |not_before| not_before.max(now));
                    state.database = Err(Closed { why: why.clone(), retry_at });
                    self.closed.notify_one();
                }
                Err(closed) if is_it && is_told => closed.why = why.clone(),
                Ok(_) | Err(_) => {}
            }
        }
        why
    }

    /// Why it is closed, if it is.
    pub(super) fn why_closed(&self) -> Option<Error> {
        self.read().database.as_ref().err().map(|closed| closed.why.clone())
    }

    /// How long what failed is best left alone.
    pub(super) fn pause(&self) -> Duration {
        self.read().pause
    }

    /// Until it is closed, and time to open it again.
    pub(super) async fn wants_reopening(&self) {
        loop {
            let retry_at = self.read().database.as_ref().err().map(|closed| closed.retry_at);
            match retry_at {
                Some(retry_at) => return tokio::time::sleep_until(retry_at.into()).await,
                None => self.closed.notified().await,
            }
        }
    }

    /// Opens it again, while others are told why it is closed. For one thread alone.
    pub(super) fn reopen(&self) {
        let (database, pause) = open(&self.opener, &self.path);
        let mut state = self.write();
        let not_before = Instant::now() + pause;
        (state.pause, state.not_before) = (pause, Some(not_before));
        match database {
            Ok(database) => {
                tracing::info!(file = %self.path.display(), "opened again");
                state.opened += 1;
                state.database = Ok(database);
            }
            Err(why) => state.database = Err(Closed { why, retry_at: not_before }),
        }
    }

    pub(super) fn unavailable(&self, why: &dyn Display) -> Error {
        unavailable(&self.path, why)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn checked(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).open(path)
}

/// Only here does a queue begin. A file that is empty, or gone while the daemon runs, was a queue that is lost; so is one that
/// a link leads to in vain.
fn make_if_absent(directory: &Path, path: &Path) -> Result<(), redb::Error> {
    std::fs::create_dir_all(directory)?;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        there => return Ok(there.map(drop)?),
    }
    match Database::create(path) {
        Ok(_) | Err(DatabaseError::DatabaseAlreadyOpen) => Ok(()),
        Err(error) => {
            // What was only begun is in the way of the next try.
            let _ = std::fs::remove_file(path);
            Err(error.into())
        }
    }
}

/// Opens it, and says how long it should not be opened again.
fn open(opener: &Opener, path: &Path) -> (Result<Database, Error>, Duration) {
    let began = Instant::now();
    let database = opener(path).map_err(|error| storage_error(path, error.into())).and_then(|database| {
        create_tables(&database).map_err(|error| storage_error(path, error))?;
        Ok(database)
    });
    (database, REOPEN_EVERY.max(began.elapsed() * REOPEN_PAUSE))
}

/// What went wrong, as the operator can mend it.
fn storage_error(path: &Path, error: redb::Error) -> Error {
    match error {
        redb::Error::DatabaseAlreadyOpen => Error::InUse { path: path.display().to_string() },
        redb::Error::Io(error) => match error.kind() {
            // What redb says of a file that is none of its own, or only a part of one.
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => corrupt(path, &error),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                unavailable(path, &format_args!("the disk is full ({error}); make room, and it goes on by itself"))
            }
            _ => unavailable(path, &error),
        },
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            unavailable(path, &"the disk failed, and the file is about to be opened again")
        }
        error @ (redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }) => corrupt(path, &error),
        error => unavailable(path, &error),
    }
}

fn corrupt(path: &Path, why: &dyn Display) -> Error {
    Error::Corrupt(format!(
        "{} is damaged, or no embedded queue ({why}): restore it from a backup, or move it away to start with an empty queue",
        path.display()
    ))
}

fn unavailable(path: &Path, why: &dyn Display) -> Error {
    Error::Unavailable { store: format!("the embedded queue at {}", path.display()), why: why.to_string() }
}
