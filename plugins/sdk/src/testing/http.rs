//! Other servers in a test: they answer what the test says.

use std::cell::RefCell;

use crate::http::{Answer, NoAnswer, Request};

/// What other servers say.
pub(super) type Servers = Box<dyn Fn(&Request<'_>) -> Result<Answer, NoAnswer>>;

thread_local! {
    static SERVERS: RefCell<Option<Servers>> = const { RefCell::new(None) };
}

pub(crate) fn ask(request: &Request<'_>) -> Result<Answer, NoAnswer> {
    SERVERS.with_borrow(|servers| match servers {
        Some(servers) => servers(request),
        None => Err(NoAnswer("denied: the test has no servers".to_owned())),
    })
}

pub(super) fn put(servers: Option<Servers>) {
    SERVERS.set(servers);
}
