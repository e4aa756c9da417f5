//! Any bytes as a controller's `ApplyRequest`, against the reconciler and a model of the data plane: nothing panics, a
//! refused batch leaves no trace, and what was taken is unchanged when it comes again.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weft_agent::fuzz_apply(data));
