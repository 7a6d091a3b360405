//! The command line. Data on stdout, talk on stderr; 0 for success, 1 for failure, 64 for bad usage or configuration.

use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::ParseError;

use crate::config::{Config, Mistakes};
use crate::plugin::THREAD_STACK;

/// In place of the standard ones, for all of the command line: those panic when the reader is gone.
macro_rules! print { ($($words:tt)*) => { $crate::cli::out::write(std::io::stdout(), format_args!($($words)*)) }; }
macro_rules! println { ($($words:tt)*) => { print!("{}\n", format_args!($($words)*)) }; }
macro_rules! eprint { ($($words:tt)*) => { $crate::cli::out::write(std::io::stderr(), format_args!($($words)*)) }; }
macro_rules! eprintln { ($($words:tt)*) => { eprint!("{}\n", format_args!($($words)*)) }; }

mod check;
mod client;
mod demo;
mod desk;
mod dlq;
mod out;
mod plugin;
mod progress;
mod publish;
mod serve;

/// EX_USAGE of sysexits.h.
const USAGE: u8 = 64;

/// Webhook delivery with WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    log: Log,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Log {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text", env = "WEFT_LOG_FORMAT")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `info,weft::plugin=debug`.
    #[arg(long, global = true, env = "WEFT_LOG")]
    log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Serve(serve::Serve),
    /// See Weft at work: a daemon, a receiver and a dozen events, no server needed.
    Demo(demo::Demo),
    /// Check the configuration; reports every mistake at once.
    Check(check::Check),
    /// Publish events: one JSON object, an array of them, or several one after the other.
    Publish(publish::Publish),
    /// Look after dead letters.
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// Write, build, test and measure plugins, and list those of a daemon.
    #[command(subcommand)]
    Plugin(plugin::Plugin),
}

/// Where the configuration is, and the main keys of it as flags.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file [default: weft.toml, if it exists].
    #[arg(long, short, value_name = "FILE", env = "WEFT_CONFIG")]
    config: Option<PathBuf>,
    /// queue.url: embedded:DIRECTORY, redis://… or rediss://…
    #[arg(long, value_name = "URL")]
    queue: Option<String>,
    /// admin.listen: the address of the admin listener.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// plugins.dir: where the compiled plugins are.
    #[arg(long, value_name = "DIRECTORY")]
    plugins: Option<String>,
}

impl ConfigArgs {
    /// File, then environment, then flags.
    fn load(&self) -> Result<Config, Mistakes> {
        let flags = [
            ("WEFT_QUEUE__URL", &self.queue),
            ("WEFT_ADMIN__LISTEN", &self.listen),
            ("WEFT_PLUGINS__DIR", &self.plugins),
        ];
        let given = flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        Config::load(self.config.as_deref(), environment().chain(given))
    }
}

/// The environment's variables. None of ours is without a text, and what others have may be anything.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        if name.starts_with("WEFT_") && value.to_str().is_none() {
            eprintln!("weft: {name} is not UTF-8 and does not count");
        }
        Some((name, value.into_string().ok()?))
    })
}

/// Runs the command line and says how it went.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when printing fails.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let default_level = match cli.command {
        Command::Demo(_) => "warn",
        // They say themselves what is to be said.
        Command::Plugin(_) => "error",
        Command::Serve(_) | Command::Check(_) | Command::Publish(_) | Command::Dlq(_) => "info",
    };
    // Writes the last lines when it goes.
    let _log = match start_log(&cli.log, default_level) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("weft: --log-level: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let built = tokio::runtime::Builder::new_multi_thread().thread_stack_size(THREAD_STACK).enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Serve(serve) => serve.run().await,
            Command::Demo(demo) => Box::pin(demo.run()).await,
            Command::Check(check) => check.run().await,
            Command::Publish(publish) => publish.run().await,
            Command::Dlq(dlq) => dlq.run().await,
            Command::Plugin(plugin) => plugin.run().await,
        }
    });
    // Tasks that outlasted the drain must not hold up the exit.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    if let Some(mistakes) = error.downcast_ref::<Mistakes>() {
        eprintln!("{mistakes}");
        return ExitCode::from(USAGE);
    }
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        // Nobody is left to tell when printing fails.
        let _ = usage.print();
        return ExitCode::from(USAGE);
    }
    eprintln!("weft: {error:#}");
    ExitCode::FAILURE
}

/// Lines are written by a thread of their own, as many at once as have gathered: an attempt does not wait for a write.
fn start_log(log: &Log, default_level: &str) -> Result<WorkerGuard, ParseError> {
    let level = log.log_level.as_deref().unwrap_or(default_level);
    let filter = tracing_subscriber::EnvFilter::try_new(level)?;
    let (writer, guard) = NonBlockingBuilder::default().lossy(false).finish(BufWriter::new(std::io::stderr()));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    match log.log_format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(guard)
}
