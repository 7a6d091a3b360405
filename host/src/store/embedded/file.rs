//! The file of plugin state. After a read, a write or a sync that failed redb takes nothing more, for nobody can tell what is
//! on the disk: the file is closed, and opened anew for what comes next.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Database, DatabaseError};

/// From one opening to the next: a disk that goes on failing is not read all the time.
const OPEN_EVERY: Duration = Duration::from_secs(1);

/// How the file is opened.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

pub(super) struct File {
    opener: Opener,
    state: RwLock<State>,
}

struct State {
    /// `None` after a failure.
    database: Option<Database>,
    opened: Instant,
    /// Why the last act failed, if it did.
    failure: Option<String>,
}

impl File {
    /// Opens it, or makes it.
    pub(super) fn open(opener: Opener) -> Result<File, redb::Error> {
        let database = Some(open(&opener)?);
        let state = RwLock::new(State { database, opened: Instant::now(), failure: None });
        Ok(File { opener, state })
    }

    /// Reads, if the file is open.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Option<T> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.database.as_ref().and_then(|database| look(database).ok())
    }

    /// Works on it, and opens it before if need be. For one thread alone.
    pub(super) fn work<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, String> {
        let worked = self.reopen().and_then(|()| {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let database = state.database.as_ref().expect("it is open, and nobody else closes it");
            work(database).map_err(|error| error.to_string())
        });
        let failure = worked.as_ref().err().cloned();
        if failure.is_some() || self.failure().is_some() {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            if failure.is_some() {
                // Dropping the database closes the file, so that it can be opened again.
                state.database = None;
            }
            state.failure = failure;
        }
        worked
    }

    /// Why the last act failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).failure.clone()
    }

    fn reopen(&self) -> Result<(), String> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.database.is_some() {
            return Ok(());
        }
        if let Some(why) = state.failure.as_ref().filter(|_| state.opened.elapsed() < OPEN_EVERY) {
            return Err(why.clone());
        }
        // Nobody waits for the lock while it is read and repaired.
        drop(state);
        let database = open(&self.opener);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.opened = Instant::now();
        state.database = Some(database.map_err(|error| error.to_string())?);
        Ok(())
    }
}

fn open(opener: &Opener) -> Result<Database, redb::Error> {
    let database = opener()?;
    super::create_tables(&database)?;
    Ok(database)
}
