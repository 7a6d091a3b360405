//! What each key must hold. Somebody may make one something else, by mistake or because another program has the name; then
//! people are told which one it is.

use redis::cmd;

use super::{Redis, words};

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    SortedSet,
    Hash,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Stream => "a stream",
            Kind::SortedSet => "a sorted set",
            Kind::Hash => "a hash",
        }
    }

    /// The command that tells how many it holds, and refuses another kind. `TYPE` may be forbidden to us.
    fn size(self) -> &'static str {
        match self {
            Kind::Stream => "XLEN",
            Kind::SortedSet => "ZCARD",
            Kind::Hash => "HLEN",
        }
    }
}

/// What each of the keys holds, in the order in which scripts are told them.
const KINDS: [Kind; KEYS] = [
    Kind::Stream,    // events
    Kind::Stream,    // deliveries
    Kind::SortedSet, // retry
    Kind::Hash,      // retry data
    Kind::Stream,    // dead letters
    Kind::SortedSet, // parked
    Kind::SortedSet, // lines
    Kind::Hash,      // first
    Kind::SortedSet, // next
    Kind::SortedSet, // hosts
    Kind::Hash,      // held
    Kind::Hash,      // claims
    Kind::Hash,      // counts
    Kind::SortedSet, // ahead
];

/// How many keys a queue has.
pub(super) const KEYS: usize = 14;

/// For scripts that look at a key before they write to it: the command that does, by the key's place.
pub(super) fn sizes() -> String {
    format!("local SIZE = {{ {} }}\n", KINDS.map(|kind| format!("'{}'", kind.size())).join(", "))
}

impl Redis {
    /// Which keys hold something else than what is Weft's, and the mend; `None` if none does.
    pub(super) async fn wrong_types(&self) -> Option<String> {
        let mut wrong = Vec::new();
        for (key, kind) in self.all_keys().into_iter().zip(KINDS) {
            let size: redis::RedisResult<u64> = cmd(kind.size()).arg(key).query_async(&mut self.commands.clone()).await;
            if size.is_err_and(|error| words::is_wrong_type(&error.to_string())) {
                wrong.push(words::of_wrong_type(key, kind.name()));
            }
        }
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }
}
