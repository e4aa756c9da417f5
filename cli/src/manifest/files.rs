//! Files, directories and standard input, and the documents in them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_norway::Value as Yaml;

use super::{Described, ManifestError, Place, document};
use crate::{error::CliError, kind::path_of};

/// Reads every object in the files named; `-` is `input`. All errors of all files are reported together.
pub fn load(
    files: &[PathBuf],
    recursive: bool,
    input: &mut dyn io::Read,
) -> Result<Vec<Described>, CliError> {
    let mut errors = Vec::new();
    let mut objects = Vec::new();
    for file in files {
        if file == Path::new("-") {
            let mut text = String::new();
            let name = "standard input";
            match input.read_to_string(&mut text) {
                Ok(_) => objects.extend(read_text(name, &text, &mut errors)),
                Err(source) => errors.push(ManifestError::Read {
                    file: name.to_owned(),
                    source,
                }),
            }
            continue;
        }
        for file in expand(file, recursive, &mut errors) {
            let name = file.display().to_string();
            match fs::read_to_string(&file) {
                Ok(text) => objects.extend(read_text(&name, &text, &mut errors)),
                Err(source) => errors.push(ManifestError::Read { file: name, source }),
            }
        }
    }
    refuse_duplicates(&objects, &mut errors);
    if errors.is_empty() {
        Ok(objects)
    } else {
        Err(CliError::Manifest(errors))
    }
}

/// Reads the objects in a text; `name` stands for its file in errors.
pub fn load_text(name: &str, text: &str) -> Result<Vec<Described>, CliError> {
    let mut errors = Vec::new();
    let objects = read_text(name, text, &mut errors);
    refuse_duplicates(&objects, &mut errors);
    if errors.is_empty() {
        Ok(objects)
    } else {
        Err(CliError::Manifest(errors))
    }
}

fn read_text(name: &str, text: &str, errors: &mut Vec<ManifestError>) -> Vec<Described> {
    let before = errors.len();
    let documents = split(name, text, errors);
    let several = documents.len() > 1;
    let objects: Vec<Described> = documents
        .iter()
        .flat_map(|(number, value)| {
            let place = Place {
                file: name.to_owned(),
                document: several.then_some(*number),
            };
            document::read(&place, value, errors)
        })
        .collect();
    if objects.is_empty() && errors.len() == before {
        errors.push(ManifestError::NoObject(name.to_owned()));
    }
    objects
}

/// The documents of a text with their numbers; those after one that cannot be parsed are not looked at.
fn split(name: &str, text: &str, errors: &mut Vec<ManifestError>) -> Vec<(usize, Yaml)> {
    let mut documents = Vec::new();
    let mut keep = |number: usize, parsed: Result<Yaml, String>| match parsed {
        Ok(Yaml::Null) => true,
        Ok(value) => {
            documents.push((number, value));
            true
        }
        Err(message) => {
            let document = (number > 1).then_some(number);
            errors.push(ManifestError::Syntax {
                place: Place {
                    file: name.to_owned(),
                    document,
                },
                message,
            });
            false
        }
    };
    // JSON has its own parser for the sake of its error messages.
    if text.trim_start().starts_with(['{', '[']) && !name.ends_with(".yaml") && !name.ends_with(".yml") {
        for (index, value) in serde_json::Deserializer::from_str(text)
            .into_iter::<Yaml>()
            .enumerate()
        {
            if !keep(index + 1, value.map_err(|error| error.to_string())) {
                break;
            }
        }
    } else {
        for (index, document) in serde_norway::Deserializer::from_str(text).enumerate() {
            if !keep(
                index + 1,
                Yaml::deserialize(document).map_err(|error| error.to_string()),
            ) {
                break;
            }
        }
    }
    documents
}

fn expand(path: &Path, recursive: bool, errors: &mut Vec<ManifestError>) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let found = match list(path, recursive) {
        Ok(found) => found,
        Err(source) => {
            errors.push(ManifestError::Read {
                file: path.display().to_string(),
                source,
            });
            return Vec::new();
        }
    };
    if found.is_empty() {
        errors.push(ManifestError::EmptyDirectory(path.display().to_string()));
    }
    found
}

fn list(directory: &Path, recursive: bool) -> io::Result<Vec<PathBuf>> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            // Links are not followed: they can lead in circles.
            if recursive && !entry.is_symlink() {
                files.extend(list(&entry, true)?);
            }
        } else if matches!(
            entry.extension().and_then(|end| end.to_str()),
            Some("yaml" | "yml" | "json")
        ) {
            files.push(entry);
        }
    }
    Ok(files)
}

fn refuse_duplicates(objects: &[Described], errors: &mut Vec<ManifestError>) {
    let mut seen: BTreeMap<String, &Place> = BTreeMap::new();
    for described in objects {
        let path = path_of(&described.object);
        if let Some(first) = seen.get(&path) {
            errors.push(ManifestError::Twice {
                place: described.place.clone(),
                path,
                first: (*first).clone(),
            });
        } else {
            seen.insert(path, &described.place);
        }
    }
}
