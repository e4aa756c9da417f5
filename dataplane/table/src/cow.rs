//! An array that is cheap to copy and to change a little: what a snapshot holds of each table.
//!
//! Chunks are shared between the copies; a change copies one chunk of the writer's array (the first time after a
//! copy was made) and leaves the readers' alone. Reading is two dependent loads.

use std::sync::Arc;

/// Entries a chunk: a change copies that many at most.
const CHUNK: usize = 256;

/// Copy-on-write array, indexed from 0; entries that were never set are `T::default()`.
#[derive(Clone, Debug)]
pub struct CowArray<T> {
    chunks: Vec<Arc<[T; CHUNK]>>,
    vacant: Arc<[T; CHUNK]>,
}

impl<T: Clone + Default> CowArray<T> {
    /// An array of default values only.
    pub fn new() -> Self {
        CowArray {
            chunks: Vec::new(),
            vacant: Arc::new(std::array::from_fn(|_| T::default())),
        }
    }

    /// Sets one entry; the array grows as needed.
    pub fn set(&mut self, index: usize, value: T) {
        *self.entry(index) = value;
    }

    /// One entry for change.
    pub fn entry(&mut self, index: usize) -> &mut T {
        let chunk = index / CHUNK;
        while self.chunks.len() <= chunk {
            self.chunks.push(Arc::clone(&self.vacant));
        }
        &mut Arc::make_mut(&mut self.chunks[chunk])[index % CHUNK]
    }

    /// Every entry up to the last chunk in use, with its index.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).enumerate()
    }
}

impl<T> CowArray<T> {
    /// One entry; None beyond what was ever set.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK).map(|chunk| &chunk[index % CHUNK])
    }
}

impl<T: Clone + Default> Default for CowArray<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn a_copy_keeps_its_values_while_the_original_changes(
            before in proptest::collection::vec((0usize..2000, any::<u32>()), 0..60),
            after in proptest::collection::vec((0usize..2000, any::<u32>()), 0..60),
        ) {
            let (mut array, mut model) = (CowArray::new(), HashMap::new());
            for &(index, value) in &before {
                array.set(index, value);
                model.insert(index, value);
            }
            let (copy, copy_model) = (array.clone(), model.clone());
            for &(index, value) in &after {
                array.set(index, value);
                model.insert(index, value);
            }
            for index in 0..2000 {
                prop_assert_eq!(copy.get(index).copied().unwrap_or(0), copy_model.get(&index).copied().unwrap_or(0));
                prop_assert_eq!(array.get(index).copied().unwrap_or(0), model.get(&index).copied().unwrap_or(0));
            }
        }
    }

    #[test]
    fn a_change_copies_one_chunk_only() {
        let mut array = CowArray::new();
        array.set(3 * CHUNK, 1u32);
        let copy = array.clone();
        array.set(3 * CHUNK + 1, 2);
        let shared = array
            .chunks
            .iter()
            .zip(&copy.chunks)
            .filter(|(a, b)| Arc::ptr_eq(a, b))
            .count();
        assert_eq!(shared, 3);
    }
}
