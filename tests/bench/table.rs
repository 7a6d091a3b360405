//! The table that is printed, and the file with the same figures.

use std::borrow::Cow;

use anyhow::Result;
use serde::Serialize;

/// One line.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What it must be at least or at most; none for figures that others are ratios of.
    pub(crate) budget: Option<Budget>,
    pub(crate) holds: Option<bool>,
}

/// A bound.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Budget {
    AtLeast(f64),
    AtMost(f64),
}

impl Budget {
    fn holds(self, value: f64) -> bool {
        match self {
            Budget::AtLeast(bound) => value >= bound,
            Budget::AtMost(bound) => value <= bound,
        }
    }
}

impl Figure {
    pub(crate) fn plain(name: impl Into<Cow<'static, str>>, value: f64, unit: &'static str) -> Figure {
        Figure { name: name.into(), value, unit, budget: None, holds: None }
    }

    pub(crate) fn bound(name: impl Into<Cow<'static, str>>, value: f64, unit: &'static str, budget: Budget) -> Figure {
        Figure { name: name.into(), value, unit, budget: Some(budget), holds: Some(budget.holds(value)) }
    }
}

/// Prints one line as soon as it is known.
pub(crate) fn print(figure: &Figure) {
    let Figure { name, value, unit, budget, holds } = figure;
    let value = if *value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    let budget = match budget {
        None => String::new(),
        Some(Budget::AtLeast(bound)) => format!("at least {bound}"),
        Some(Budget::AtMost(bound)) => format!("at most {bound}"),
    };
    let verdict = match holds {
        None => "",
        Some(true) => "holds",
        Some(false) => "MISSED",
    };
    println!("{name:<58} {value:>9} {unit:<14} {budget:<14} {verdict}");
}

/// Writes `target/bench.json`.
pub(crate) fn save(figures: &[Figure]) -> Result<()> {
    let file = tests::root().join("target/bench.json");
    std::fs::write(&file, serde_json::to_string_pretty(figures)? + "\n")?;
    println!("\nwritten to target/bench.json");
    Ok(())
}
