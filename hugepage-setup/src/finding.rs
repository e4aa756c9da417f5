//! What a check found.

use serde::Serialize;

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As weft wants it.
    Ok,
    /// weft runs, but slower or with less than it could.
    Warning,
    /// weftd does not start, or something that it needs fails.
    Problem,
}

impl State {
    /// The word in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One line of `weft doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; stable, for scripts.
    pub check: String,
    /// How good it is.
    pub state: State,
    /// What is there.
    pub found: String,
    /// What to do, unless it is ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    /// Works, but could be better.
    pub fn warning(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            state: State::Warning,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }

    /// Does not work.
    pub fn problem(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            state: State::Problem,
            found: found.into(),
            advice: Some(advice.into()),
        }
    }
}
