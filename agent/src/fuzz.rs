//! What the fuzzer runs: bytes as an `ApplyRequest`, against reconciler and model.

use std::sync::Arc;

use prost::Message;
use weft_proto::v1;

use crate::{
    engine::memory::MemoryEngine,
    model::{FieldError, Key, Object},
    store::Store,
    writer::{Batch, Core, Verdict},
};

/// Applies what the bytes say twice. Nothing may panic; a refused batch leaves no trace; and what was taken whole is
/// unchanged the second time.
pub fn apply(data: &[u8]) {
    let Ok(request) = v1::ApplyRequest::decode(data) else {
        return;
    };
    let engine = Arc::new(MemoryEngine::default());
    let Ok(mut core) = Core::restore(Store::in_memory(), engine.clone(), 2) else {
        return;
    };
    let puts: Vec<Result<Object, FieldError>> = request.objects.iter().map(Object::from_proto).collect();
    let deletes = request.deletes.iter().map(Key::from_proto).collect();
    let batch = Batch {
        dry_run: request.dry_run,
        ..Batch::of("fuzz".into(), puts.clone(), deletes)
    };
    let before = engine.tables();
    let Ok(answer) = core.apply(batch) else { return };
    let refused = answer
        .verdicts
        .iter()
        .any(|verdict| !matches!(verdict, Verdict::Done { .. }));
    if refused || request.dry_run {
        assert!(engine.tables() == before, "a refused batch left a trace");
        return;
    }
    let after = engine.tables();
    let again = core.apply(Batch::of("fuzz".into(), puts, Vec::new()));
    assert!(again.is_ok_and(|again| {
        again
            .verdicts
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Done { .. }))
    }));
    assert!(engine.tables() == after, "a replay changed something");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn requests_and_their_truncations_do_no_harm() {
        let request = v1::ApplyRequest {
            owner: "o".into(),
            objects: vec![
                vrf("red"),
                tap("vm", "red", &["10.0.0.5"]),
                group("g", &[("m", to_port("vm"))]),
                route("r", "red", "10.0.0.0/8", to_group("g")),
            ],
            deletes: vec![v1::Key {
                kind: 1,
                name: "blue".into(),
            }],
            ..Default::default()
        };
        let bytes = request.encode_to_vec();
        for length in 0..=bytes.len() {
            apply(&bytes[..length]);
        }
        for (index, bit) in (0..bytes.len()).flat_map(|index| [(index, 1), (index, 0x80)]) {
            let mut flipped = bytes.clone();
            flipped[index] ^= bit;
            apply(&flipped);
        }
    }
}
