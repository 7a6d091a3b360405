//! The terms under which a plugin runs: its limits, and what it was granted.

use std::sync::Arc;

use super::outgoing::WayOut;
use super::state::State;
use super::{Config, Grant, Limits, Variable};

/// Of one plugin.
pub(super) struct Terms {
    pub name: Arc<str>,
    pub limits: Limits,
    pub kind: Kind,
    /// Only if it was granted.
    pub state: Option<State>,
    /// The same.
    pub way_out: Option<Arc<WayOut>>,
    /// What time it is.
    pub clock: Access,
    /// Chance.
    pub random: Access,
    /// Environment variables that it sees.
    pub env: Vec<Variable>,
}

/// Whether a plugin has something that every program can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Granted,
    /// It is given a substitute.
    Withheld,
}

/// What a plugin's file is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A component: its standard input is empty, and what it prints is for the log.
    Component,
    /// A program: it reads the delivery and prints its answer.
    Program,
}

impl Kind {
    /// Its name, as people read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Component => "component",
            Kind::Program => "program",
        }
    }
}

impl Terms {
    /// As the configuration has them.
    pub(super) fn new(name: &str, config: &Config, kind: Kind) -> Terms {
        let limits = config.limits_of(name);
        let store = config.state.as_ref().filter(|_| config.grants(name, Grant::State));
        let state = store.map(|store| State {
            store: Arc::clone(store),
            quota: limits.state_bytes_max,
            wait_max: limits.state_time_max,
        });
        let access = |grant| if config.grants(name, grant) { Access::Granted } else { Access::Withheld };
        Terms {
            name: name.into(),
            way_out: WayOut::of(name, config, &limits),
            limits,
            kind,
            state,
            clock: access(Grant::Clock),
            random: access(Grant::Random),
            env: config.env_of(name),
        }
    }
}
