//! The shop as it was before the feature: its tables, products and orders. These routes are
//! healthy.

use std::io::Write;
use std::path::Path;

use rusqlite::{Connection as Database, params};

use crate::pool::Connection;

pub(crate) const PRODUCTS: u32 = 4000;
pub(crate) const CATEGORIES: u32 = 40;
pub(crate) const CUSTOMERS: u32 = 500;
const ORDERS_AT_THE_START: u32 = 5000;
const PRODUCTS_ON_A_PAGE: u32 = 40;

/// Makes a database file of products and orders.
pub(crate) fn make_database(file: &Path) -> rusqlite::Result<()> {
    let mut database = Database::open(file)?;
    database.execute_batch(
        "CREATE TABLE product (
             id INTEGER PRIMARY KEY, category INTEGER NOT NULL, title TEXT NOT NULL,
             price_cents INTEGER NOT NULL);
         CREATE INDEX product_by_category ON product (category, price_cents);
         CREATE TABLE purchase (
             id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, product INTEGER NOT NULL);
         CREATE INDEX purchase_by_customer ON purchase (customer, product);",
    )?;
    let filling = database.transaction()?;
    for id in 0..PRODUCTS {
        filling.prepare_cached("INSERT INTO product VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            id,
            id % CATEGORIES,
            format!("Product no. {id}, of the finest in its category"),
            250 + id * 37 % 9000
        ])?;
    }
    for id in 0..ORDERS_AT_THE_START {
        // 7919 and 104729 are primes, so that customers and products do not fall into a pattern.
        filling.prepare_cached("INSERT INTO purchase VALUES (?1, ?2, ?3)")?.execute(params![
            id,
            i64::from(id) * 7919 % i64::from(CUSTOMERS),
            i64::from(id) * 104_729 % i64::from(PRODUCTS)
        ])?;
    }
    filling.commit()
}

/// The titles of all products, by id.
pub(crate) fn titles(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.database.prepare("SELECT title FROM product ORDER BY id")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// The cheapest products of a category, one per line.
pub(crate) fn products(connection: &mut Connection, category: u32) -> rusqlite::Result<Vec<u8>> {
    let mut statement = connection.database.prepare_cached(
        "SELECT id, title, price_cents FROM product
         WHERE category = ?1 ORDER BY price_cents LIMIT ?2",
    )?;
    let mut found = statement.query(params![category, PRODUCTS_ON_A_PAGE])?;
    while let Some(row) = found.next()? {
        let (id, title, cents): (u32, String, u32) = row.try_into()?;
        // Writing into a `Vec` cannot fail.
        let _ = writeln!(connection.rows, "{id}\t{title}\t{cents}");
    }
    Ok(connection.rows.clone())
}

/// Records an order of one product, and returns its number.
pub(crate) fn order(
    connection: &mut Connection,
    customer: u32,
    product: u32,
) -> rusqlite::Result<i64> {
    connection
        .database
        .prepare_cached("INSERT INTO purchase (customer, product) VALUES (?1, ?2)")?
        .execute(params![customer, product])?;
    Ok(connection.database.last_insert_rowid())
}
