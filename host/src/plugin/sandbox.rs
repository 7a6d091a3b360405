//! All that one call can touch: the data of its store.

use std::sync::{Arc, Mutex};

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, StoreContextMut, StoreLimits, StoreLimitsBuilder, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::console::{Console, Stream};
use super::engine::TICK;
use super::load::Loaded;
use super::log::{Log, Origin};
use super::{Call, Limits};
use crate::request::Draft;

/// Random bytes per request of a plugin.
const RANDOM_BYTES_MAX: u64 = 4096;

/// What a call is given.
pub(super) struct Input {
    /// The delivery.
    pub call: Arc<Call>,
    /// The request as the plugins before left it.
    pub draft: Draft,
    /// The subscription's settings for this plugin, as JSON text.
    pub settings: String,
    /// Changes when `settings` would.
    pub settings_revision: u64,
}

/// The data of a store.
pub(super) struct Sandbox {
    pub input: Input,
    /// The draft with this plugin's edits, from the first of them on.
    pub edited: Option<Draft>,
    pub plugin: Arc<Loaded>,
    pub limiter: Limiter,
    pub log: Log,
    ticks_left: u128,
    table: ResourceTable,
    /// Made when first used: most plugins import WASI and few call it.
    wasi: Option<Box<Wasi>>,
}

struct Wasi {
    ctx: WasiCtx,
    console: Arc<Mutex<Console>>,
}

/// The plugin ran longer than [`Limits::cpu_max`].
#[derive(Debug, thiserror::Error)]
#[error("ran longer than cpu_max")]
pub(super) struct OutOfTime;

impl Sandbox {
    /// Holds one call to the plugin's limits.
    pub(super) fn new(plugin: &Arc<Loaded>, input: Input) -> Sandbox {
        let limits = &plugin.limits;
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles_max);
        Sandbox {
            log: Log::new(limits),
            edited: None,
            limiter: Limiter::new(limits),
            ticks_left: limits.cpu_max.as_millis() / TICK.as_millis(),
            table,
            wasi: None,
            plugin: Arc::clone(plugin),
            input,
        }
    }

    /// Counts one tick of running time. Giving way through Tokio puts the call behind all that waits; the plain
    /// `UpdateDeadline::Yield` wakes it at once and starves timers.
    pub(super) fn tick(mut store: StoreContextMut<'_, Sandbox>) -> wasmtime::Result<UpdateDeadline> {
        let left = &mut store.data_mut().ticks_left;
        *left = left.checked_sub(1).ok_or(OutOfTime)?;
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    }

    /// The draft as the plugin sees it.
    pub(super) fn draft(&self) -> &Draft {
        self.edited.as_ref().unwrap_or(&self.input.draft)
    }

    /// The draft to edit.
    pub(super) fn draft_mut(&mut self) -> &mut Draft {
        self.edited.get_or_insert_with(|| self.input.draft.clone())
    }

    /// What the plugin printed.
    pub(super) fn printed(&self) -> String {
        self.wasi.as_ref().map(|wasi| Console::lock(&wasi.console).text()).unwrap_or_default()
    }

    /// Writes what is left for the log. Call it once, at the end.
    pub(super) fn flush_log(&mut self) {
        let printed = self.printed();
        let origin = Origin { plugin: &self.plugin.name, delivery: &self.input.call.event.id };
        self.log.printed(origin, &printed);
        self.log.finish(origin);
    }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let bytes_max = self.plugin.limits.log_bytes_max;
        let wasi = self.wasi.get_or_insert_with(|| Box::new(Wasi::empty(bytes_max)));
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut self.table }
    }
}

impl Wasi {
    /// No files, no network, no environment; what it prints is kept for the log.
    fn empty(bytes_max: usize) -> Wasi {
        let console = Console::new(bytes_max);
        let ctx = WasiCtxBuilder::new()
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .allow_blocking_current_thread(false)
            .max_random_size(RANDOM_BYTES_MAX)
            .stdout(Stream::to(&console))
            .stderr(Stream::to(&console))
            .build();
        Wasi { ctx, console }
    }
}

/// Bounds memory and tables, and remembers that it did: to the plugin it looks like any other failure.
pub(super) struct Limiter {
    limits: StoreLimits,
    /// Whether more memory was asked for than there may be.
    pub refused: bool,
}

impl Limiter {
    fn new(limits: &Limits) -> Limiter {
        let limits = StoreLimitsBuilder::new()
            .memory_size(usize::try_from(limits.memory_max).unwrap_or(usize::MAX))
            .table_elements(limits.table_elements_max)
            .instances(32)
            .tables(8)
            .memories(2)
            .build();
        Limiter { limits, refused: false }
    }

    fn note(&mut self, granted: wasmtime::Result<bool>) -> wasmtime::Result<bool> {
        self.refused |= !matches!(granted, Ok(true));
        granted
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = self.limits.memory_growing(current, desired, maximum);
        self.note(granted)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        self.limits.memory_grow_failed(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = self.limits.table_growing(current, desired, maximum);
        self.note(granted)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        self.limits.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}
