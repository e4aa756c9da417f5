//! The log: lines on standard error, with priorities that the journal understands when it listens.

use std::io::{self, Stderr, Write};

use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Starts logging with this filter.
pub fn start(filter: &str) {
    let filter = EnvFilter::builder().parse_lossy(filter);
    // The journal adds the time itself, and knows priorities by a prefix (sd-daemon(3)).
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false);
    if journal {
        lines
            .with_ansi(false)
            .without_time()
            .with_level(false)
            .with_writer(Journal)
            .init();
    } else {
        lines
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .with_writer(io::stderr)
            .init();
    }
}

/// Writes each line with its priority in front.
struct Journal;

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Prefixed;

    fn make_writer(&'a self) -> Prefixed {
        Prefixed {
            priority: Some("<6>"),
            to: io::stderr(),
        }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Prefixed {
        let priority = match *event.level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        };
        Prefixed {
            priority: Some(priority),
            to: io::stderr(),
        }
    }
}

/// One line.
struct Prefixed {
    priority: Option<&'static str>,
    to: Stderr,
}

impl Write for Prefixed {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(priority) = self.priority.take() {
            self.to.write_all(priority.as_bytes())?;
        }
        self.to.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
