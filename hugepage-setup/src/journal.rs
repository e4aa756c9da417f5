//! What was done, so that it can be undone.
//!
//! A JSON file, because people should be able to read what will happen to their host. Each step carries the boot in
//! which it was done: what a reboot undoes is not undone twice.

use serde::{Deserialize, Serialize};

use crate::{action::Undo, error::SetupError, host::Host};

/// Where the journal is kept. Not under /run: files that persist outlive a boot, and so must their record.
pub const JOURNAL_FILE: &str = "/var/lib/weft/host-setup.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    did: String,
    boot: String,
    #[serde(flatten)]
    undo: Undo,
}

/// The recorded steps, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    steps: Vec<Step>,
}

/// What `undo` did with one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// Taken back (or would be).
    Restored(String),
    /// A reboot had done so.
    GoneSinceBoot(String),
}

impl Journal {
    /// Reads the host's journal; none yet is an empty one.
    pub fn load(host: &Host) -> Result<Self, SetupError> {
        if !host.exists(JOURNAL_FILE) {
            return Ok(Self::default());
        }
        let text = host
            .read_exact(JOURNAL_FILE)
            .map_err(SetupError::io(format!("read {JOURNAL_FILE}")))?;
        serde_json::from_str(&text).map_err(|error| SetupError::BadJournal {
            path: JOURNAL_FILE.to_owned(),
            why: error.to_string(),
        })
    }

    /// True if there is nothing to undo.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a step and saves.
    pub(crate) fn record(&mut self, host: &Host, undo: Undo, did: String) -> Result<(), SetupError> {
        self.steps.push(Step {
            did,
            boot: host.boot_id(),
            undo,
        });
        self.save(host)
    }

    /// Takes the last step out again, which failed, and saves.
    pub(crate) fn forget_last(&mut self, host: &Host) -> Result<(), SetupError> {
        self.steps.pop();
        self.save(host)
    }

    /// Takes every step back, newest first. With `dry_run` it only says so. Stops at the first that fails; what is
    /// left stays recorded.
    pub fn undo(
        &mut self,
        host: &Host,
        dry_run: bool,
        mut done: impl FnMut(&Undone),
    ) -> Result<(), SetupError> {
        let boot = host.boot_id();
        if dry_run {
            self.steps
                .iter()
                .rev()
                .for_each(|step| done(&step.outcome(&boot)));
            return Ok(());
        }
        while let Some(step) = self.steps.last() {
            let outcome = step.outcome(&boot);
            if matches!(outcome, Undone::Restored(_)) {
                step.undo.perform(host)?;
            }
            self.forget_last(host)?;
            done(&outcome);
        }
        Ok(())
    }

    fn save(&self, host: &Host) -> Result<(), SetupError> {
        let failed = || SetupError::io(format!("write {JOURNAL_FILE}"));
        if self.steps.is_empty() {
            return host.remove_file(JOURNAL_FILE).map_err(failed());
        }
        host.make_directory("/var/lib/weft").map_err(failed())?;
        let text = serde_json::to_string_pretty(self).map_err(|error| failed()(error.into()))?;
        host.write(JOURNAL_FILE, &(text + "\n")).map_err(failed())
    }
}

impl Step {
    fn outcome(&self, boot: &str) -> Undone {
        if self.undo.ends_with_boot() && self.boot != boot {
            Undone::GoneSinceBoot(self.did.clone())
        } else {
            Undone::Restored(self.undo.to_string())
        }
    }
}
