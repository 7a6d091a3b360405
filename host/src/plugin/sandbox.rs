//! All that one call can touch: the data of its store.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use wasmtime::{ResourceLimiter, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use super::about::About;
use super::console::{Beyond, Console, Stream};
use super::engine::TABLES_MAX;
use super::haste::{self, NotOver};
use super::log::{Log, Origin};
use super::outgoing::{Closed, Doorkeeper, Patience};
use super::program;
use super::terms::{Access, Kind, Terms};
use super::tick::TICK;
use super::withheld::{self, Now};
use super::{Asked, Call, Limits, Reached};
use crate::request::Draft;

/// What a call is given.
pub(super) struct Input {
    /// The delivery.
    pub call: Arc<Call>,
    /// The request as the plugins before left it.
    pub draft: Draft,
    /// The subscription's settings for this plugin, as JSON text.
    pub settings: Arc<str>,
    /// Changes when `settings` would.
    pub settings_revision: u64,
}

/// What a call leaves.
pub(super) struct Ended {
    /// The draft as it was.
    pub before: Draft,
    /// And as it was edited.
    pub edited: Option<Draft>,
    /// Limits that it reached and went on.
    pub reached: Vec<Reached>,
    /// How its requests to other servers ended.
    pub asked: Vec<Asked>,
}

/// The data of a store.
pub(super) struct Sandbox {
    /// The delivery, while there is one: not while the plugin registers itself, nor between two calls.
    input: Option<Input>,
    /// The draft with this plugin's edits, from the first of them on.
    edited: Option<Draft>,
    pub terms: Arc<Terms>,
    /// What it says about itself, while it is asked.
    pub about: Option<About>,
    pub limiter: Limiter,
    pub log: Log,
    /// Limits that the call reached and went on.
    reached: Vec<Reached>,
    ticks_left: u128,
    /// Ticks until a call that is made at once is given up; `None` for one that gives way.
    ticks_at_once: Option<u8>,
    /// For its requests to other servers, if it was granted some.
    doorkeeper: Option<Box<Doorkeeper>>,
    /// For those of all others.
    closed: Closed,
    /// Made when first used: most plugins import WASI and few call it.
    wasi: Option<Box<Wasi>>,
}

struct Wasi {
    /// Serves both previews.
    ctx: WasiP1Ctx,
    /// Limits of what the host keeps for requests.
    http: WasiHttpCtx,
    console: Arc<Mutex<Console>>,
    /// For the clock of a plugin that was not granted one.
    now: Now,
    /// Standard output of a program; what a component prints there goes to the console.
    answer: Option<Arc<Mutex<Console>>>,
}

/// The plugin ran longer than [`Limits::cpu_max`].
#[derive(Debug, thiserror::Error)]
#[error("ran longer than cpu_max")]
pub(super) struct OutOfTime;

impl Sandbox {
    /// With nothing to decide on yet.
    pub(super) fn new(terms: &Arc<Terms>) -> Sandbox {
        let limits = &terms.limits;
        Sandbox {
            log: Log::new(limits),
            edited: None,
            limiter: Limiter::new(limits),
            ticks_left: ticks(limits),
            ticks_at_once: None,
            doorkeeper: terms.way_out.as_ref().map(|way_out| Box::new(Doorkeeper::new(Arc::clone(way_out)))),
            closed: Closed,
            wasi: None,
            input: None,
            terms: Arc::clone(terms),
            about: None,
            reached: Vec::new(),
        }
    }

    /// Holds the next call to the plugin's limits. Nothing of the one before is left.
    pub(super) fn begin(&mut self, input: Input) {
        let limits = &self.terms.limits;
        self.log = Log::new(limits);
        self.ticks_left = ticks(limits);
        self.ticks_at_once = None;
        self.limiter.refused = None;
        if let Some(doorkeeper) = &mut self.doorkeeper {
            doorkeeper.begin();
        }
        if let Some(wasi) = &self.wasi {
            wasi.now.store(input.call.now_ms(), Ordering::Relaxed);
        }
        self.input = Some(input);
    }

    /// The call is made at once. What it logs is kept until it is over, for it may be begun anew.
    pub(super) fn hurry(&mut self) {
        self.ticks_at_once = Some(haste::TICKS_MAX);
        self.log.hold();
    }

    /// Takes the input back from a call that is not over; nothing else of it is left.
    pub(super) fn give_up(&mut self) -> Input {
        self.input.take().expect("a call that is given up has begun")
    }

    /// Notes that a limit was reached.
    pub(super) fn reached(&mut self, limit: Reached) {
        if !self.reached.contains(&limit) {
            self.reached.push(limit);
        }
    }

    /// Ends the call: what it printed is logged.
    pub(super) fn end(&mut self) -> Ended {
        let input = self.input.take().expect("a call that ends has begun");
        let origin = Origin { plugin: &self.terms.name, delivery: &input.call.event.id };
        if let Some(wasi) = &self.wasi {
            let printed = Console::lock(&wasi.console).take();
            self.log.printed(origin, &String::from_utf8_lossy(&printed));
        }
        self.log.finish(origin);
        if self.log.is_cut() {
            self.reached(Reached::Log);
        }
        let asked = self.doorkeeper.as_mut().map(|doorkeeper| doorkeeper.end()).unwrap_or_default();
        let reached = std::mem::take(&mut self.reached);
        Ended { before: input.draft, edited: self.edited.take(), reached, asked }
    }

    /// How much longer the call may take than others; `None` for one that may ask nobody.
    pub(super) fn patience(&self) -> Option<Arc<Patience>> {
        self.doorkeeper.as_ref().map(|doorkeeper| doorkeeper.patience())
    }

    /// What the plugin is asked about.
    pub(super) fn input(&self) -> wasmtime::Result<&Input> {
        self.input.as_ref().ok_or_else(|| wasmtime::Error::msg("there is no delivery now"))
    }

    /// Counts one tick of running time. Giving way through Tokio puts the call behind all that waits; the plain
    /// `UpdateDeadline::Yield` wakes it at once and starves timers.
    pub(super) fn tick(mut store: StoreContextMut<'_, Sandbox>) -> wasmtime::Result<UpdateDeadline> {
        let sandbox = store.data_mut();
        sandbox.ticks_left = sandbox.ticks_left.checked_sub(1).ok_or(OutOfTime)?;
        if let Some(left) = &mut sandbox.ticks_at_once {
            *left = left.checked_sub(1).ok_or(NotOver)?;
            return Ok(UpdateDeadline::Continue(1));
        }
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    }

    /// The draft as the plugin sees it.
    pub(super) fn draft(&self) -> wasmtime::Result<&Draft> {
        self.edited.as_ref().map_or_else(|| self.input().map(|input| &input.draft), Ok)
    }

    /// The draft to edit.
    pub(super) fn draft_mut(&mut self) -> wasmtime::Result<&mut Draft> {
        let input = self.input.as_ref().ok_or_else(|| wasmtime::Error::msg("there is no delivery now"))?;
        Ok(self.edited.get_or_insert_with(|| input.draft.clone()))
    }

    /// Takes this for the edited draft.
    pub(super) fn replace_draft(&mut self, draft: Draft) {
        self.edited = Some(draft);
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
        let (terms, input) = (&self.terms, self.input.as_ref());
        &mut self.wasi.get_or_insert_with(|| Box::new(Wasi::new(terms, input))).ctx
    }
}

fn ticks(limits: &Limits) -> u128 {
    limits.cpu_max.as_millis() / TICK.as_millis()
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi().ctx()
    }
}

impl WasiHttpView for Sandbox {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let (terms, input) = (&self.terms, self.input.as_ref());
        let wasi = self.wasi.get_or_insert_with(|| Box::new(Wasi::new(terms, input)));
        let hooks: &mut dyn WasiHttpHooks = match &mut self.doorkeeper {
            Some(doorkeeper) => &mut **doorkeeper,
            None => &mut self.closed,
        };
        WasiHttpCtxView { hooks, table: wasi.ctx.ctx().table, ctx: &mut wasi.http }
    }
}

impl Wasi {
    /// No files, no network, and of the environment only what was granted. What a component prints is kept for the log; a program reads the delivery
    /// and prints its answer.
    fn new(terms: &Terms, input: Option<&Input>) -> Wasi {
        let now = Now::new(input.map_or(0, |input| input.call.now_ms()).into());
        let console = Console::new(terms.limits.log_bytes_max, Beyond::Forgotten);
        let mut builder = WasiCtxBuilder::new();
        builder
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .allow_blocking_current_thread(false)
            .max_random_size(terms.limits.random_bytes_max)
            .stdout(Stream::to(&console))
            .stderr(Stream::to(&console));
        let answer = match terms.kind {
            Kind::Component => None,
            Kind::Program => {
                let answer = Console::new(terms.limits.output_bytes_max, Beyond::Fatal);
                // Runtimes of some languages stumble over a program without a name.
                builder
                    .arg(&terms.name)
                    .stdin(MemoryInputPipe::new(input.map(program::document).unwrap_or_default()))
                    .stdout(Stream::to(&answer));
                Some(answer)
            }
        };
        if terms.clock == Access::Withheld {
            withheld::clock(&mut builder, &now);
        }
        if terms.random == Access::Withheld {
            withheld::random(&mut builder, input.map_or("", |input| &input.call.event.id), &terms.name);
        }
        for variable in &terms.env {
            builder.env(&variable.name, &variable.value);
        }
        let mut ctx = builder.build_p1();
        ctx.ctx().table.set_max_capacity(terms.limits.handles_max);
        Wasi { ctx, http: WasiHttpCtx::new(), console, now, answer }
    }
}

/// Bounds memory and tables, and remembers that it did: to the plugin it looks like any other failure.
pub(super) struct Limiter {
    memory_max: u64,
    table_elements_max: u64,
    core_instances_max: u32,
    memories_max: u32,
    /// Bytes granted, of all memories together.
    pub memory: u64,
    /// The same of table elements.
    table_elements: u64,
    /// Of what there was asked for more than there may be, the last time.
    pub refused: Option<Refused>,
}

/// What was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Memory,
    Table,
}

impl Limiter {
    fn new(limits: &Limits) -> Limiter {
        Limiter {
            memory_max: limits.memory_max,
            table_elements_max: limits.table_elements_max as u64,
            core_instances_max: limits.core_instances_max,
            memories_max: limits.memories_max,
            memory: 0,
            table_elements: 0,
            refused: None,
        }
    }
}

/// The sum after something grows, if it may.
fn grown(sum: u64, max: u64, current: usize, desired: usize, own_maximum: Option<usize>) -> Option<u64> {
    let sum = sum.saturating_add(desired.saturating_sub(current) as u64);
    (sum <= max && own_maximum.is_none_or(|maximum| desired <= maximum)).then_some(sum)
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = grown(self.memory, self.memory_max, current, desired, maximum);
        self.memory = sum.unwrap_or(self.memory);
        self.refused = if sum.is_none() { Some(Refused::Memory) } else { self.refused };
        Ok(sum.is_some())
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = Some(Refused::Memory);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = grown(self.table_elements, self.table_elements_max, current, desired, maximum);
        self.table_elements = sum.unwrap_or(self.table_elements);
        self.refused = if sum.is_none() { Some(Refused::Table) } else { self.refused };
        Ok(sum.is_some())
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = Some(Refused::Table);
        Ok(())
    }

    fn instances(&self) -> usize {
        self.core_instances_max as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        self.memories_max as usize
    }
}
