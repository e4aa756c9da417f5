//! The embedded store: what the owners want, across restarts.
//!
//! One file, `weft.redb`, in the state directory. redb keeps it whole through crashes (copy on write, checksums, one
//! commit a batch) and locks it, so that one weftd at most works on a directory.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use prost::Message;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, WriteTransaction,
};
use weft_proto::v1;

use crate::{
    model::{FieldError, Key, Kind, Name, Object},
    reconciler::{Held, Stored},
};

/// The form of the tables below; a newer weftd that changes them counts up and converts.
pub const SCHEMA_VERSION: u64 = 1;
/// Name of the file in the state directory.
pub const FILE: &str = "weft.redb";
/// Pages that redb keeps in memory. The reconciler has every object anyway.
const CACHE_BYTES: usize = 32 << 20;

/// Number in the data plane, generation, owner, encoded spec.
type Row<'a> = (Option<u32>, u64, &'a str, &'a [u8]);

const OBJECTS: TableDefinition<(u8, &str), Row<'static>> = TableDefinition::new("objects");
const OWNERS: TableDefinition<&str, u64> = TableDefinition::new("owners");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const SCHEMA: &str = "schema";

/// The store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another weftd has it.
    #[error(
        "{} is in use by another weftd: stop that one, or give this one its own `state_dir`",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Not ours to open.
    #[error("{} cannot be opened: permission denied. Run weftd as the owner of the directory, or choose another `state_dir`", path.display())]
    Permission {
        /// The file or directory.
        path: PathBuf,
    },
    /// Written by a newer weftd.
    #[error("{} was written by a newer weftd (schema {found}, this one knows {SCHEMA_VERSION}): run that version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// The disk, mostly.
    #[error("{} cannot be used: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: redb::Error,
    },
    /// The directory cannot be made.
    #[error("directory {} cannot be made: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Opens the database again after an error of the disk.
type Opener = Box<dyn Fn() -> Result<Database, StoreError> + Send>;

/// See the module.
pub struct Store {
    /// For messages.
    path: PathBuf,
    /// None: in memory, where nothing is left to be opened.
    open: Option<Opener>,
    /// None: closed after an error of the disk.
    database: Option<Database>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.path).finish()
    }
}

/// What the store holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Every object that can be read.
    pub objects: Vec<Stored>,
    /// The last revision that each owner named.
    pub revisions: Vec<(Name, u64)>,
    /// Objects that this version does not accept; they stay in the store.
    pub unreadable: Vec<(String, FieldError)>,
}

/// What to write in one commit.
#[derive(Debug, Default)]
pub struct Changes {
    /// Objects with their encoded specs.
    pub puts: Vec<(Stored, Vec<u8>)>,
    /// Objects that go.
    pub deletes: Vec<Key>,
    /// An owner's revision.
    pub revision: Option<(Name, u64)>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty() && self.revision.is_none()
    }
}

impl Store {
    /// Opens the store of this directory, and makes both if they are missing.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(directory);
        made.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => StoreError::Permission {
                path: directory.into(),
            },
            _ => StoreError::Directory {
                path: directory.into(),
                source,
            },
        })?;
        let path = directory.join(FILE);
        let file = path.clone();
        Self::with(path, Some(Box::new(move || open_file(&file))))
    }

    /// A store that is gone with the process: for tests and fuzzing.
    pub fn in_memory() -> Self {
        let backend = redb::backends::InMemoryBackend::new();
        let database = Database::builder().create_with_backend(backend);
        let database = database.expect("memory takes any write");
        let store = Store {
            path: "(in memory)".into(),
            open: None,
            database: Some(database),
        };
        store.check_schema().expect("memory takes any write");
        store
    }

    /// A store whose database this function opens.
    pub(crate) fn with(path: PathBuf, open: Option<Opener>) -> Result<Self, StoreError> {
        let mut store = Store {
            path,
            open,
            database: None,
        };
        store.reopen()?;
        store.check_schema()?;
        Ok(store)
    }

    /// Whether the disk failed since the last successful write: then what the last write left behind is unknown.
    pub fn is_closed(&self) -> bool {
        self.database.is_none()
    }

    /// Opens the database again after an error of the disk.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        if let (None, Some(open)) = (&self.database, &self.open) {
            self.database = Some(open()?);
        }
        Ok(())
    }

    fn unusable(&self, source: impl Into<redb::Error>) -> StoreError {
        StoreError::Unusable {
            path: self.path.clone(),
            source: source.into(),
        }
    }

    fn database(&self) -> Result<&Database, StoreError> {
        self.database
            .as_ref()
            .ok_or_else(|| self.unusable(redb::Error::PreviousIo))
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let version = self.prepare().map_err(|source| self.unusable(source))?;
        if version > SCHEMA_VERSION {
            return Err(StoreError::Newer {
                path: self.path.clone(),
                found: version,
            });
        }
        Ok(())
    }

    /// Makes the tables and returns the schema's version.
    fn prepare(&self) -> Result<u64, redb::Error> {
        let Some(database) = &self.database else {
            return Err(redb::Error::PreviousIo);
        };
        let transaction = database.begin_write()?;
        let version = {
            let mut meta = transaction.open_table(META)?;
            let known = meta.get(SCHEMA)?.map(|version| version.value());
            if known.is_none() {
                meta.insert(SCHEMA, SCHEMA_VERSION)?;
            }
            known.unwrap_or(SCHEMA_VERSION)
        };
        if version <= SCHEMA_VERSION {
            transaction.open_table(OBJECTS)?;
            transaction.open_table(OWNERS)?;
            transaction.commit()?;
        }
        Ok(version)
    }

    /// Everything in the store.
    pub fn load(&self) -> Result<Contents, StoreError> {
        let database = self.database()?;
        let load = || -> Result<Contents, redb::Error> {
            let transaction = database.begin_read()?;
            let mut contents = Contents::default();
            for row in transaction.open_table(OBJECTS)?.iter()? {
                let (key, value) = row?;
                let (kind, name) = key.value();
                match read(kind, name, value.value()) {
                    Ok(stored) => contents.objects.push(stored),
                    Err(error) => contents.unreadable.push((format!("{kind}/{name}"), error)),
                }
            }
            for row in transaction.open_table(OWNERS)?.iter()? {
                let (owner, revision) = row?;
                contents.revisions.push((owner.value().into(), revision.value()));
            }
            Ok(contents)
        };
        load().map_err(|source| self.unusable(source))
    }

    /// Writes everything in one commit, or nothing. After an error the store is closed.
    pub fn write(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let database = self.database()?;
        let write = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            write_tables(&transaction, changes)?;
            transaction.commit()?;
            Ok(())
        };
        match write() {
            Ok(()) => Ok(()),
            Err(source) => {
                // After an error of the disk redb takes nothing until it is opened again.
                if self.open.is_some() {
                    self.database = None;
                }
                Err(self.unusable(source))
            }
        }
    }
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.into() },
            DatabaseError::Storage(StorageError::Io(error))
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                StoreError::Permission { path: path.into() }
            }
            error => StoreError::Unusable {
                path: path.into(),
                source: error.into(),
            },
        })
}

fn write_tables(transaction: &WriteTransaction, changes: &Changes) -> Result<(), redb::Error> {
    let mut objects = transaction.open_table(OBJECTS)?;
    for key in &changes.deletes {
        objects.remove((key.kind as u8, &*key.name))?;
    }
    // In the table's order, neighbours come after each other: a page is worked on once.
    let mut puts: Vec<_> = changes.puts.iter().collect();
    puts.sort_unstable_by(|(one, _), (other, _)| one.key.cmp(&other.key));
    for (stored, spec) in puts {
        let row = (
            stored.number,
            stored.held.generation,
            &*stored.held.owner,
            spec.as_slice(),
        );
        objects.insert((stored.key.kind as u8, &*stored.key.name), row)?;
    }
    if let Some((owner, revision)) = &changes.revision {
        transaction.open_table(OWNERS)?.insert(&**owner, revision)?;
    }
    Ok(())
}

fn read(kind: u8, name: &str, (number, generation, owner, spec): Row) -> Result<Stored, FieldError> {
    let undecodable =
        |error: prost::DecodeError| FieldError::new("spec", error.to_string(), "apply it again");
    let mut proto = v1::Object::decode(spec).map_err(undecodable)?;
    proto.name = name.into();
    let object = Object::from_proto(&proto)?;
    if Kind::from_number(i32::from(kind)) != Some(object.key.kind) {
        return Err(FieldError::new(
            "kind",
            format!("the spec is that of a {}", object.key.kind),
            "apply it again",
        ));
    }
    let held = Held {
        owner: owner.into(),
        generation,
        spec: object.spec,
    };
    Ok(Stored {
        key: object.key,
        held,
        number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Spec, Vrf};

    fn vrf(name: &str, number: u32) -> (Stored, Vec<u8>) {
        let spec = Spec::Vrf(Vrf {
            packet_mode: true,
            ..Vrf::default()
        });
        let encoded = spec.encode();
        let held = Held {
            owner: "o".into(),
            generation: 3,
            spec,
        };
        (
            Stored {
                key: Key::new(Kind::Vrf, name),
                held,
                number: Some(number),
            },
            encoded,
        )
    }

    #[test]
    fn what_is_written_is_read_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(directory.path()).unwrap();
        let puts = vec![vrf("red", 1), vrf("blue", 2)];
        store
            .write(&Changes {
                puts,
                deletes: vec![],
                revision: Some(("o".into(), 7)),
            })
            .unwrap();
        store
            .write(&Changes {
                deletes: vec![Key::new(Kind::Vrf, "red")],
                ..Default::default()
            })
            .unwrap();
        drop(store);
        let contents = Store::open(directory.path()).unwrap().load().unwrap();
        assert_eq!(contents.objects, [vrf("blue", 2).0]);
        assert_eq!(contents.revisions, [("o".into(), 7)]);
        assert_eq!(contents.unreadable, []);
    }

    #[test]
    fn a_second_weftd_on_the_directory_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Store::open(directory.path()).unwrap();
        let second = Store::open(directory.path()).unwrap_err();
        assert!(matches!(second, StoreError::InUse { .. }));
        assert!(second.to_string().contains("in use by another weftd"), "{second}");
    }

    #[test]
    fn a_store_of_a_newer_version_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        drop(Store::open(directory.path()).unwrap());
        let database = Database::open(directory.path().join(FILE)).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert(SCHEMA, 99).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    }

    #[test]
    fn an_object_that_is_not_valid_any_more_is_kept_and_reported() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(directory.path()).unwrap();
        let (stored, _) = vrf("red", 1);
        store
            .write(&Changes {
                puts: vec![(stored, vec![0xff; 5])],
                ..Default::default()
            })
            .unwrap();
        let contents = store.load().unwrap();
        assert!(contents.objects.is_empty());
        assert_eq!(contents.unreadable[0].0, "1/red");
    }
}
