//! All that one call can touch: the data of its store.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use wasmtime::{ResourceLimiter, StoreContextMut, StoreLimits, StoreLimitsBuilder, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{WasiCtxBuilder, WasiCtxView, WasiView};

use super::console::{Beyond, Console, Stream};
use super::engine::TICK;
use super::load::{Guest, Loaded};
use super::log::{Log, Origin};
use super::program;
use super::{Call, Limits};
use crate::event::{BodyForm, Notification};
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

impl Input {
    /// For an instance that is made to see whether it can be.
    pub(super) fn none() -> Input {
        let nothing = Notification::parse(Bytes::from_static(b"{}"), BodyForm::Verbatim, String::new);
        let event = Arc::new(nothing.expect("this is JSON").event);
        let call = Call {
            event: Arc::clone(&event),
            subscription_id: "".into(),
            destination: "".into(),
            run: 0,
            now: SystemTime::UNIX_EPOCH,
        };
        Input { call: call.into(), draft: Draft::new(event, 0), settings: "{}".to_owned(), settings_revision: 0 }
    }
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
    /// Made when first used: most plugins import WASI and few call it.
    wasi: Option<Box<Wasi>>,
}

struct Wasi {
    /// Serves both previews.
    ctx: WasiP1Ctx,
    console: Arc<Mutex<Console>>,
    /// Standard output of a program; what a component prints there goes to the console.
    answer: Option<Arc<Mutex<Console>>>,
}

/// The plugin ran longer than [`Limits::cpu_max`].
#[derive(Debug, thiserror::Error)]
#[error("ran longer than cpu_max")]
pub(super) struct OutOfTime;

impl Sandbox {
    /// Holds one call to the plugin's limits.
    pub(super) fn new(plugin: &Arc<Loaded>, input: Input) -> Sandbox {
        let limits = &plugin.limits;
        Sandbox {
            log: Log::new(limits),
            edited: None,
            limiter: Limiter::new(limits),
            ticks_left: limits.cpu_max.as_millis() / TICK.as_millis(),
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

    /// What a program answered.
    pub(super) fn answer(&mut self) -> Vec<u8> {
        let answer = self.wasi.as_ref().and_then(|wasi| wasi.answer.as_ref());
        answer.map(|answer| Console::lock(answer).take()).unwrap_or_default()
    }

    /// Preview 1, and preview 2 on top of it.
    pub(super) fn wasi(&mut self) -> &mut WasiP1Ctx {
        let (plugin, input) = (&self.plugin, &self.input);
        &mut self.wasi.get_or_insert_with(|| Box::new(Wasi::new(plugin, input))).ctx
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
        self.wasi().ctx()
    }
}

impl Wasi {
    /// No files, no network, no environment. What a component prints is kept for the log; a program reads the delivery
    /// and prints its answer.
    fn new(plugin: &Loaded, input: &Input) -> Wasi {
        let console = Console::new(plugin.limits.log_bytes_max, Beyond::Forgotten);
        let mut builder = WasiCtxBuilder::new();
        builder
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .allow_blocking_current_thread(false)
            .max_random_size(RANDOM_BYTES_MAX)
            .stdout(Stream::to(&console))
            .stderr(Stream::to(&console));
        let answer = match &plugin.guest {
            Guest::Component(_) => None,
            Guest::Program(_) => {
                let answer = Console::new(plugin.limits.output_bytes_max, Beyond::Fatal);
                // Runtimes of some languages stumble over a program without a name.
                builder
                    .arg(&plugin.name)
                    .stdin(MemoryInputPipe::new(program::document(input)))
                    .stdout(Stream::to(&answer));
                Some(answer)
            }
        };
        let mut ctx = builder.build_p1();
        ctx.ctx().table.set_max_capacity(plugin.limits.handles_max);
        Wasi { ctx, console, answer }
    }
}

/// Bounds memory and tables, and remembers that it did: to the plugin it looks like any other failure.
pub(super) struct Limiter {
    limits: StoreLimits,
    /// Bytes of memory granted.
    pub memory: u64,
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
        Limiter { limits, memory: 0, refused: false }
    }

    fn note(&mut self, granted: wasmtime::Result<bool>) -> wasmtime::Result<bool> {
        self.refused |= !matches!(granted, Ok(true));
        granted
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = self.limits.memory_growing(current, desired, maximum);
        if matches!(granted, Ok(true)) {
            self.memory += desired.saturating_sub(current) as u64;
        }
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
