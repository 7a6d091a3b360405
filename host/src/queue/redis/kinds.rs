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

impl Redis {
    /// Which keys hold something else than what is Weft's, and the mend; `None` if none does.
    pub(super) async fn wrong_types(&self) -> Option<String> {
        let mut wrong = Vec::new();
        for (key, kind) in self.kinds() {
            let size: redis::RedisResult<u64> = cmd(kind.size()).arg(key).query_async(&mut self.commands.clone()).await;
            if size.is_err_and(|error| words::is_wrong_type(&error.to_string())) {
                wrong.push(words::of_wrong_type(key, kind.name()));
            }
        }
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }

    fn kinds(&self) -> [(&String, Kind); 14] {
        let keys = &self.keys;
        let [lines, first, next] = &self.lines;
        let [hosts, held, claims, counts] = &self.liveness;
        [
            (&keys.events, Kind::Stream),
            (&keys.deliveries, Kind::Stream),
            (&keys.dead_letters, Kind::Stream),
            (&keys.retry, Kind::SortedSet),
            (&self.parked, Kind::SortedSet),
            (&self.ahead, Kind::SortedSet),
            (lines, Kind::SortedSet),
            (next, Kind::SortedSet),
            (hosts, Kind::SortedSet),
            (&self.retry_data, Kind::Hash),
            (first, Kind::Hash),
            (held, Kind::Hash),
            (claims, Kind::Hash),
            (counts, Kind::Hash),
        ]
    }
}
