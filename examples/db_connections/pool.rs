//! A pool of database connections, which are taken for a request and returned.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::OpenFlags;

/// Idle connections that are kept open; further ones are closed when they are returned.
const MAX_IDLE: usize = 8;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the database, with a buffer for the rows of an answer.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) database: rusqlite::Connection,
    /// The rows of an answer are built here; the buffer is reused for the next answer.
    pub(crate) rows: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Pool {
    database: PathBuf,
    idle: Mutex<Vec<Connection>>,
    opened: AtomicU64,
}

impl Pool {
    pub(crate) fn of(database: PathBuf) -> Self {
        let idle = Mutex::new(Vec::with_capacity(MAX_IDLE));
        Self { database, idle, opened: AtomicU64::new(0) }
    }

    /// An idle connection, or a new one.
    pub(crate) fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => self.open(),
        }
    }

    pub(crate) fn put_back(&self, mut connection: Connection) {
        connection.rows.clear();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    /// How many connections were ever opened.
    pub(crate) fn opened(&self) -> u64 {
        // Relaxed: the count is only printed.
        self.opened.load(Ordering::Relaxed)
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        // Each connection stays with one thread at a time, so SQLite need not lock it.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = rusqlite::Connection::open_with_flags(&self.database, flags)?;
        database.busy_timeout(BUSY_TIMEOUT)?;
        // The database is deleted after the run, so it need not survive a power cut.
        database.pragma_update(None, "synchronous", "off")?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Connection { database, rows: Vec::new() })
    }
}
