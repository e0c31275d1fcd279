//! The new feature: what customers with the same taste have bought.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rusqlite::params;

use crate::pool::{Connection, Pool};

/// The bytes reserved for the largest answer: 200 products of up to 120 bytes.
const ANSWER_BYTES: usize = 24 << 10;
const RECOMMENDED: u32 = 200;

/// The feature, with a pool of its own, so that its slow queries do not delay others.
#[derive(Debug)]
pub(crate) struct Recommendations {
    pool: Pool,
    fixed: bool,
    /// Connections for reading a customer's next page. Nothing ever takes one out.
    readers: Mutex<Vec<Connection>>,
}

impl Recommendations {
    pub(crate) fn new(database: PathBuf, fixed: bool) -> Self {
        Self { pool: Pool::of(database), fixed, readers: Mutex::default() }
    }

    /// How many connections were opened, and how many of them are kept.
    pub(crate) fn connections(&self) -> (u64, usize) {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).len();
        (self.pool.opened(), kept)
    }

    /// Products in the categories that a customer has bought from, one per line.
    pub(crate) fn recommend(&self, customer: u32) -> rusqlite::Result<Vec<u8>> {
        let mut connection = self.pool.take()?;
        connection.rows.reserve(ANSWER_BYTES);
        {
            let mut statement = connection.database.prepare_cached(
                "SELECT other.id, other.title, other.price_cents FROM purchase
                 JOIN product bought ON bought.id = purchase.product
                 JOIN product other ON other.category = bought.category
                 WHERE purchase.customer = ?1 ORDER BY other.price_cents LIMIT ?2",
            )?;
            let mut found = statement.query(params![customer, RECOMMENDED])?;
            while let Some(row) = found.next()? {
                let (id, title, cents): (u32, String, u32) = row.try_into()?;
                // Writing into a `Vec` cannot fail.
                let _ = writeln!(connection.rows, "{id}\t{title}\t{cents}");
            }
        }
        let answer = connection.rows.clone();
        if self.fixed {
            self.pool.put_back(connection);
        } else {
            self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(answer)
    }
}
