//! What a plugin has instead of time and chance when it was granted neither: time stands still at the delivery's, and
//! chance repeats itself. The same delivery then gets the same answer, however often it is asked about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

/// One look at the clock that measures takes so long.
const STEP_NS: u64 = 1_000;

/// The time of the delivery in milliseconds, for the clock of an instance that may outlive it.
pub(super) type Now = Arc<AtomicU64>;

/// The wall clock that stands still.
struct Still(Now);

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// The monotonic clock: it moves with each look, since loops that wait for it would otherwise never end.
#[derive(Default)]
struct Steps(AtomicU64);

impl HostMonotonicClock for Steps {
    fn resolution(&self) -> u64 {
        STEP_NS
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(STEP_NS, Ordering::Relaxed)
    }
}

/// Withholds the time.
pub(super) fn clock(builder: &mut WasiCtxBuilder, now: &Now) {
    builder.wall_clock(Still(Arc::clone(now))).monotonic_clock(Steps::default());
}

/// Withholds chance: what is drawn follows from the delivery's id and the plugin's name.
pub(super) fn random(builder: &mut WasiCtxBuilder, delivery: &str, plugin: &str) {
    let seed: [u8; 32] = Sha256::new().chain_update(plugin).chain_update([0]).chain_update(delivery).finalize().into();
    let number = seed.iter().take(16).fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
    builder
        .secure_random(StdRng::from_seed(seed))
        .insecure_random(StdRng::from_seed(seed))
        .insecure_random_seed(number);
}
