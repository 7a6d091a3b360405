//! Looks names up. The system's lookup holds a thread until it ends, however long a name's servers are silent, and nobody can
//! end it. So each name is looked up once at a time for all who want it, and so many names at once.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::net::lookup_host;
use tokio::sync::{Semaphore, watch};

const UNPOISONED: &str = "nothing panics while it is locked";

/// The addresses of a name, none being an error.
pub(super) type Found = Result<Arc<[IpAddr]>, Arc<io::Error>>;

type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
type Look = Box<dyn Fn(String) -> Looking + Send + Sync>;
type Answer = watch::Receiver<Option<Found>>;

/// Who knows the names.
#[derive(Clone)]
pub(super) struct Names(Arc<Inner>);

struct Inner {
    look: Look,
    places: Semaphore,
    /// What is being looked up. A receiver stays here, beside those of all who wait.
    asked: Mutex<HashMap<String, Answer>>,
}

impl Names {
    /// As the system knows them.
    pub(super) fn new(lookups_max: usize) -> Names {
        Names::by(lookups_max, Box::new(|host| Box::pin(system(host))))
    }

    fn by(lookups_max: usize, look: Look) -> Names {
        let places = Semaphore::new(lookups_max.min(Semaphore::MAX_PERMITS));
        Names(Arc::new(Inner { look, places, asked: Mutex::default() }))
    }

    /// The addresses of a name.
    pub(super) async fn find(&self, host: &str) -> Found {
        let mut answer = self.ask(host);
        let found = answer.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        found.unwrap_or_else(|| Err(Arc::new(io::Error::other("the lookup broke off"))))
    }

    fn ask(&self, host: &str) -> Answer {
        let mut asked = self.0.asked.lock().expect(UNPOISONED);
        if let Some(answer) = asked.get(host) {
            return answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        asked.insert(host.to_owned(), answer.clone());
        // No shutdown waits for it, because nothing is lost with it and it may take long.
        tokio::spawn(Arc::clone(&self.0).answer(host.to_owned(), tell));
        answer
    }
}

impl Inner {
    async fn answer(self: Arc<Self>, host: String, tell: watch::Sender<Option<Found>>) {
        let place = self.places.acquire().await.expect("places are never closed");
        if self.is_unwanted(&host, &tell) {
            return;
        }
        let found = (self.look)(host.clone()).await;
        drop(place);
        // Who asks from now on gets a lookup that begins later.
        self.asked.lock().expect(UNPOISONED).remove(&host);
        let nothing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let found = found.and_then(|found| if found.is_empty() { Err(nothing()) } else { Ok(found) });
        tell.send_replace(Some(found.map(Arc::from).map_err(Arc::new)));
    }

    /// Whether all who asked went away before it was their turn.
    fn is_unwanted(&self, host: &str, tell: &watch::Sender<Option<Found>>) -> bool {
        let mut asked = self.asked.lock().expect(UNPOISONED);
        let is_unwanted = tell.receiver_count() <= 1;
        if is_unwanted {
            asked.remove(host);
        }
        is_unwanted
    }
}

async fn system(host: String) -> io::Result<Vec<IpAddr>> {
    Ok(lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// Names that are known when a permit is given, and what was looked up so far.
    fn names(lookups_max: usize) -> (Names, Arc<Semaphore>, mpsc::UnboundedReceiver<String>) {
        let (permits, (begun, begins)) = (Arc::new(Semaphore::new(0)), mpsc::unbounded_channel());
        let permitted = Arc::clone(&permits);
        let look: Look = Box::new(move |host| {
            begun.send(host).expect("the test listens");
            let permits = Arc::clone(&permitted);
            Box::pin(async move {
                permits.acquire().await.expect("never closed").forget();
                Ok(vec![IpAddr::from([192, 0, 2, 1])])
            })
        });
        (Names::by(lookups_max, look), permits, begins)
    }

    fn ask(names: &Names, host: &'static str) -> tokio::task::JoinHandle<Found> {
        let names = names.clone();
        tokio::spawn(async move { names.find(host).await })
    }

    #[tokio::test]
    async fn all_who_want_a_name_wait_for_one_lookup() {
        let (names, permits, mut begun) = names(8);
        let waiting: Vec<_> = (0..100).map(|_| ask(&names, "slow.example")).collect();
        assert_eq!(timeout(DEADLINE, begun.recv()).await.unwrap().as_deref(), Some("slow.example"));
        // The test's runtime has one thread: when it is the test's turn again, all have asked.
        tokio::task::yield_now().await;
        permits.add_permits(1);
        for waits in waiting {
            assert_eq!(timeout(DEADLINE, waits).await.unwrap().unwrap().unwrap().len(), 1);
        }
        assert!(begun.try_recv().is_err(), "looked up once");
        assert!(names.0.asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn so_many_names_at_once_and_none_that_nobody_wants_any_more() {
        let (names, permits, mut begun) = names(2);
        let (first, second) = (ask(&names, "a.example"), ask(&names, "b.example"));
        begun.recv().await.unwrap();
        begun.recv().await.unwrap();
        let gone = ask(&names, "c.example");
        let waits_for = async |host: &str| {
            while !names.0.asked.lock().unwrap().contains_key(host) {
                tokio::task::yield_now().await;
            }
        };
        waits_for("c.example").await;
        let last = ask(&names, "d.example");
        waits_for("d.example").await;
        assert!(begun.try_recv().is_err(), "two at once");
        gone.abort();
        assert!(gone.await.is_err());
        permits.add_permits(3);
        for waits in [first, second, last] {
            timeout(DEADLINE, waits).await.unwrap().unwrap().unwrap();
        }
        assert_eq!(begun.recv().await.as_deref(), Some("d.example"), "nobody wanted c.example any more");
    }
}
