//! The tick: interrupts plugins that run, so that their running time is counted and others get their turn.

use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::engine::Engines;

/// The step in which running time is counted.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// How long it may take until it is seen that a plugin runs again: where none does, nobody wakes for each tick.
const NAP: Duration = Duration::from_millis(5);

/// Starts it in a thread of its own: as a task it would wait behind the very plugins it is to interrupt. It ticks while `is_any`
/// says that a plugin runs in `places`, and ends with them.
pub(super) fn start<P>(engines: Engines, places: &Arc<P>, is_any: fn(&P) -> bool) -> Result<(), Error>
where
    P: Send + Sync + 'static,
{
    let places = Arc::downgrade(places);
    let run = move || {
        while let Some(runs) = places.upgrade().map(|places| is_any(&places)) {
            if runs {
                engines.tick();
            }
            std::thread::sleep(if runs { TICK } else { NAP });
        }
    };
    std::thread::Builder::new().name("weft-plugin-tick".to_owned()).spawn(run).map_err(Error::Clock)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use wasmtime::Engine;

    use super::*;

    /// No sleep is shorter than it should be, however busy the machine is.
    #[test]
    fn it_naps_where_no_plugin_runs() {
        let looks = Arc::new(AtomicU32::new(0));
        let began = Instant::now();
        let engines = Engines { small: Engine::default(), large: Engine::default() };
        start(engines, &looks, |looks| {
            looks.fetch_add(1, Ordering::Relaxed);
            false
        })
        .unwrap();
        let so_far = || looks.load(Ordering::Relaxed);
        while so_far() < 20 {
            std::thread::sleep(TICK);
        }
        let naps = so_far() - 1;
        let took = began.elapsed();
        assert!(took >= NAP * naps, "{naps} naps in {took:?}");
    }
}
