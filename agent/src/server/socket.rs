//! The unix socket: made with its owner and mode in one step, and never taken from a living weftd.

use std::{
    io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

use crate::config::Socket;

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SocketError {
    #[error("socket {} is served by another weftd: stop that one, or give this one its own `socket`", path.display())]
    InUse { path: PathBuf },
    #[error("{} exists and is no socket: remove it, or choose another `socket`", path.display())]
    NoSocket { path: PathBuf },
    #[error("socket {} cannot be made: permission denied. Run weftd as a user who may write there, or choose another `socket`", path.display())]
    Permission { path: PathBuf },
    #[error("socket {} cannot be made: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A bound socket, whose file is removed when this is dropped.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds the socket. The file of a weftd that is dead is replaced; a living one is not.
pub fn bind(socket: &Socket) -> Result<(UnixListener, Bound), SocketError> {
    let path = &socket.path;
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => SocketError::Permission { path: path.clone() },
        _ => SocketError::Io {
            path: path.clone(),
            source,
        },
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    make_room(path)?;
    // Made under another name first: nobody can connect before owner and mode are set.
    let mut hidden = path.clone().into_os_string();
    hidden.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(hidden);
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).map_err(failed)?;
    let publish = || {
        if socket.user.is_some() || socket.group.is_some() {
            chown(&hidden, socket.user, socket.group)?;
        }
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(socket.mode))?;
        std::fs::rename(&hidden, path)
    };
    if let Err(error) = publish() {
        let _ = std::fs::remove_file(&hidden);
        return Err(failed(error));
    }
    Ok((listener, Bound { path: path.clone() }))
}

/// Whether the path is free or a dead weftd's.
fn make_room(path: &Path) -> Result<(), SocketError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NoSocket { path: path.into() });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(SocketError::Permission { path: path.into() })
        }
        // Connected, or its backlog is full: somebody is there.
        _ => Err(SocketError::InUse { path: path.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: PathBuf) -> Socket {
        Socket {
            path,
            user: None,
            group: None,
            mode: 0o640,
        }
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let socket = at(directory.path().join("sub/weft.sock"));
        let (listener, bound) = bind(&socket).unwrap();
        assert_eq!(
            std::fs::metadata(&socket.path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert!(matches!(bind(&socket), Err(SocketError::InUse { .. })));
        drop(listener);
        std::mem::forget(bound);
        assert!(socket.path.exists(), "as after kill -9");
        let (_listener, bound) = bind(&socket).unwrap();
        UnixStream::connect(&socket.path).unwrap();
        drop(bound);
        assert_eq!(
            std::fs::read_dir(directory.path().join("sub")).unwrap().count(),
            0
        );
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let socket = at(directory.path().join("notes"));
        std::fs::write(&socket.path, "precious").unwrap();
        let error = bind(&socket).unwrap_err();
        assert!(matches!(error, SocketError::NoSocket { .. }));
        assert_eq!(std::fs::read_to_string(&socket.path).unwrap(), "precious");
    }
}
