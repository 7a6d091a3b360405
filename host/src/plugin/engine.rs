//! The engines: how plugins are compiled and where their memory comes from. They belong to one [`Plugins`](super::Plugins).

use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use tracing::{info, warn};
use wasmparser::{Parser, Payload};
use wasmtime::{CacheConfig, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use super::{Cache, Config, Error};

/// Tables of an instance.
pub(super) const TABLES_MAX: u32 = 8;

/// What a slot keeps where clearing it means writing all of it.
const KEEP_WITHOUT_SCAN: usize = 64 << 10;
/// The same of small plugins: some grow.
const KEEP_SMALL: usize = 256 << 10;
/// Memory that is written anew in less time than the kernel takes to say which pages of it were written.
const SMALL_MAX: u64 = PAGE;
const TABLE_KEEP: usize = 64 << 10;
/// A memory has at most 32-bit addresses.
const MEMORY_MAX: u64 = 4 << 30;
const PAGE: u64 = 64 << 10;
/// For host functions that a plugin calls.
const HOST_STACK: usize = 512 << 10;
/// Bits of a mode.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Where the memory of plugin instances comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocator {
    /// From a pool; after a call the kernel says which pages were written, and only those are cleared.
    ScannedPool,
    /// From a pool; after a call a part is cleared and the rest given back to the kernel.
    Pool,
    /// Mapped for each call. Slow: for machines where address space is limited.
    OnDemand,
}

impl Allocator {
    /// Its name in logs and status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Allocator::ScannedPool => "scanned-pool",
            Allocator::Pool => "pool",
            Allocator::OnDemand => "on-demand",
        }
    }
}

/// The engines of one host.
#[derive(Clone)]
pub(super) struct Engines {
    /// For plugins that begin with little memory.
    pub small: Engine,
    /// For all others; the same, where they would not differ.
    pub large: Engine,
}

impl Engines {
    /// Interrupts whatever runs.
    pub(super) fn tick(&self) {
        self.large.increment_epoch();
        if !Engine::same(&self.small, &self.large) {
            self.small.increment_epoch();
        }
    }

    /// Whether no instance is left in their pools.
    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn are_empty(&self) -> bool {
        [&self.small, &self.large]
            .into_iter()
            .filter_map(Engine::pooling_allocator_metrics)
            .all(|pool| (pool.component_instances(), pool.memories(), pool.stacks()) == (0, 0, 0))
    }
}

/// Whether a plugin begins with so little memory that it is cleared by writing all of it.
pub(super) fn is_small(content: &[u8]) -> bool {
    let mut bytes = 0_u64;
    for payload in Parser::new(0).parse_all(content) {
        match payload {
            Ok(Payload::MemorySection(memories)) => {
                for memory in memories {
                    bytes = bytes.saturating_add(memory.map_or(u64::MAX, |memory| memory.initial.saturating_mul(PAGE)));
                }
            }
            Ok(_) => {}
            // What is wrong with it the compiler says better.
            Err(_) => return false,
        }
    }
    bytes <= SMALL_MAX
}

/// Makes the engines with the best allocator this machine can have.
pub(super) fn start(config: &Config) -> Result<(Engines, Allocator), Error> {
    let cache = match &config.cache {
        Cache::Off => None,
        Cache::In(dir) => Some(open_cache(dir)?),
        Cache::Try(dir) => {
            open_cache(dir).inspect_err(|error| warn!(%error, "plugins are compiled at every start")).ok()
        }
    };
    let (large, allocator) = best(config, cache.as_ref())?;
    let small = match allocator {
        Allocator::ScannedPool => {
            let pool = pool(config, Enabled::No, config.keep_bytes.min(KEEP_SMALL));
            Engine::new(&engine_config(config, pool, cache.as_ref()))
                .inspect_err(|error| info!(reason = format!("{error:#}"), "no pool for small plugins here"))
                .unwrap_or_else(|_| large.clone())
        }
        Allocator::Pool | Allocator::OnDemand => large.clone(),
    };
    Ok((Engines { small, large }, allocator))
}

fn best(config: &Config, cache: Option<&wasmtime::Cache>) -> Result<(Engine, Allocator), Error> {
    let candidates = match config.allocator {
        Some(allocator) => vec![allocator],
        None if swap_is_on() => vec![Allocator::Pool, Allocator::OnDemand],
        None => vec![Allocator::ScannedPool, Allocator::Pool, Allocator::OnDemand],
    };
    let mut reason = None;
    for allocator in candidates {
        match Engine::new(&engine_config(config, strategy(config, allocator), cache)) {
            Ok(engine) => {
                info!(allocator = allocator.name(), "plugin engine started");
                return Ok((engine, allocator));
            }
            Err(error) => {
                info!(allocator = allocator.name(), reason = format!("{error:#}"), "not available here");
                reason = Some(error);
            }
        }
    }
    Err(Error::Engine(format!("{:#}", reason.expect("at least one was tried"))))
}

/// A written page that was swapped out is not found by the scan: the next call would read the last one's data.
fn swap_is_on() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|table| table.lines().count() > 1)
}

fn engine_config(
    config: &Config,
    strategy: InstanceAllocationStrategy,
    cache: Option<&wasmtime::Cache>,
) -> wasmtime::Config {
    let mut engine = wasmtime::Config::new();
    engine
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        // Halves the cost of a call, and nothing here speaks preview 3.
        .concurrency_support(false)
        .gc_support(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .max_wasm_stack(config.stack_bytes_max)
        .async_stack_size(config.stack_bytes_max.saturating_add(HOST_STACK))
        .memory_init_cow(true)
        // Images of JavaScript and Python guests are larger than the default's 16 MiB.
        .memory_guaranteed_dense_image_size(64 << 20)
        .wasm_backtrace_max_frames(NonZeroUsize::new(32))
        .cache(cache.cloned())
        .allocation_strategy(strategy);
    engine
}

fn strategy(config: &Config, allocator: Allocator) -> InstanceAllocationStrategy {
    match allocator {
        Allocator::ScannedPool => pool(config, Enabled::Yes, config.keep_bytes),
        Allocator::Pool => pool(config, Enabled::No, config.keep_bytes.min(KEEP_WITHOUT_SCAN)),
        Allocator::OnDemand => InstanceAllocationStrategy::OnDemand,
    }
}

fn pool(config: &Config, scan: Enabled, keep: usize) -> InstanceAllocationStrategy {
    // Some may wait for their next delivery, and one is of a plugin that is being loaded.
    let instances = config.calls_max.max(1).saturating_add(config.idle_max).saturating_add(1);
    let memory_max = usize::try_from(config.memory_max().clamp(PAGE, MEMORY_MAX)).unwrap_or(usize::MAX);
    let (core_instances, memories) = (config.limits.core_instances_max, config.limits.memories_max);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        // Measured: 2 core instances for Rust, 14 for Python and 38 with its WASI stubbed; 2 tables; one memory.
        .total_core_instances(instances.saturating_mul(core_instances))
        .max_core_instances_per_component(core_instances)
        .total_memories(instances.saturating_mul(memories))
        .max_memories_per_component(memories)
        .total_tables(instances.saturating_mul(TABLES_MAX))
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memories_per_module(memories)
        .table_elements(config.limits.table_elements_max)
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(2 << 20)
        .max_memory_size(memory_max)
        .max_unused_warm_slots(instances)
        .linear_memory_keep_resident(keep)
        .table_keep_resident(keep.min(TABLE_KEEP))
        .pagemap_scan(scan);
    InstanceAllocationStrategy::Pooling(pool)
}

/// Native code comes out of there, so nobody else may get in.
fn open_cache(dir: &Path) -> Result<wasmtime::Cache, Error> {
    let failed = |error: String| Error::Cache { dir: dir.display().to_string(), error };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed(error.to_string()))?;
    let metadata = std::fs::metadata(dir).map_err(|error| failed(error.to_string()))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(failed("others may write there; take a directory of this user, with mode 0700".to_owned()));
    }
    let dir = dir.canonicalize().map_err(|error| failed(error.to_string()))?;
    let mut config = CacheConfig::new();
    config.with_directory(dir);
    wasmtime::Cache::new(config).map_err(|error| failed(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::is_small;

    fn of(text: &str) -> bool {
        is_small(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn small_is_what_begins_with_a_page_of_memory() {
        assert!(of("(component (core module (memory 1 9)) (core module))"));
        assert!(of("(module (memory 1))"));
        assert!(!of("(component (core module (memory 2)))"));
        assert!(!of("(component (core module (memory 1)) (component (core module (memory 1))))"));
        assert!(!is_small(b"no wasm"));
    }
}
