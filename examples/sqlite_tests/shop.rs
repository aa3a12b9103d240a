//! The program under test, in small: a shop's database, with the rules that its schema keeps, and cases that try them.

use rusqlite::{Connection, params};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Cases, of five kinds, with different parameters.
pub(crate) const CASES: usize = 200;

const PRODUCTS: i64 = 400;
const CUSTOMERS: i64 = 500;
const ORDERS: i64 = 2000;

const SCHEMA: &str = "
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, credit INTEGER NOT NULL);
    CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price INTEGER NOT NULL CHECK (price > 0),
        stock INTEGER NOT NULL CHECK (stock >= 0), description TEXT);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers ON DELETE CASCADE,
        state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paid', 'sent')));
    CREATE TABLE lines (id INTEGER PRIMARY KEY, \"order\" INTEGER NOT NULL REFERENCES orders ON DELETE CASCADE,
        product INTEGER NOT NULL REFERENCES products, amount INTEGER NOT NULL CHECK (amount > 0));
    CREATE TABLE journal (id INTEGER PRIMARY KEY, what TEXT NOT NULL, subject INTEGER NOT NULL);
    CREATE INDEX orders_by_customer ON orders (customer, state);
    CREATE INDEX lines_by_order ON lines (\"order\");
    CREATE INDEX lines_by_product ON lines (product);
    CREATE TRIGGER taken AFTER INSERT ON lines BEGIN
        UPDATE products SET stock = stock - new.amount WHERE id = new.product;
    END;
    CREATE TRIGGER paid AFTER UPDATE OF state ON orders WHEN new.state = 'paid' BEGIN
        UPDATE customers SET credit = credit - (SELECT sum(amount * price) FROM lines JOIN products ON products.id = product
            WHERE \"order\" = new.id) WHERE id = new.customer;
        INSERT INTO journal (what, subject) VALUES ('paid', new.id);
    END;
    CREATE VIEW turnover AS SELECT customer, sum(amount * price) AS total FROM orders
        JOIN lines ON \"order\" = orders.id JOIN products ON products.id = product GROUP BY customer;";

/// Schema and fixtures.
pub(crate) fn build(db: &Connection) -> Outcome {
    db.execute_batch("BEGIN")?;
    db.execute_batch(SCHEMA)?;
    let mut product = db.prepare("INSERT INTO products VALUES (?1, ?2, ?3, 100000, ?4)")?;
    for id in 1..=PRODUCTS {
        product.execute(params![
            id,
            format!("product {id}"),
            100 + id * 37 % 5000,
            "about this product ".repeat(20)
        ])?;
    }
    let mut customer = db.prepare("INSERT INTO customers VALUES (?1, ?2, ?3, 1000000)")?;
    for id in 1..=CUSTOMERS {
        customer.execute(params![id, format!("customer {id}"), format!("c{id}@example.org")])?;
    }
    let mut order = db.prepare("INSERT INTO orders (id, customer) VALUES (?1, ?2)")?;
    let mut line = db.prepare("INSERT INTO lines (\"order\", product, amount) VALUES (?1, ?2, ?3)")?;
    for id in 1..=ORDERS {
        order.execute([id, 1 + id * 7 % CUSTOMERS])?;
        for at in 0..3 {
            line.execute([id, 1 + (id * 13 + at * 101) % PRODUCTS, 1 + (id + at) % 4])?;
        }
    }
    drop((product, customer, order, line));
    db.execute_batch("COMMIT")?;
    Ok(())
}

fn number(db: &Connection, sql: &str, id: i64) -> Outcome<i64> {
    Ok(db.query_row(sql, [id], |row| row.get(0))?)
}

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// One case of the suite.
pub(crate) fn run(db: &Connection, case: usize) -> Outcome {
    ensure(number(db, "SELECT count(*) + ?1 FROM journal", 0)? == 0, "the case before left something")?;
    let id = 1 + i64::try_from(case)? * 9 % ORDERS;
    match case % 5 {
        0 => {
            let cost = number(
                db,
                "SELECT sum(amount * price) FROM lines JOIN products p ON p.id = product WHERE \"order\" = ?1",
                id,
            )?;
            db.execute("UPDATE orders SET state = 'paid' WHERE id = ?1", [id])?;
            let credit = number(
                db,
                "SELECT credit FROM customers WHERE id = (SELECT customer FROM orders WHERE id = ?1)",
                id,
            )?;
            ensure(credit == 1_000_000 - cost, "paying takes the credit")?;
            ensure(number(db, "SELECT count(*) FROM journal WHERE subject = ?1", id)? == 1, "and is noted")
        }
        1 => {
            let product = 1 + id % PRODUCTS;
            let stock = number(db, "SELECT stock FROM products WHERE id = ?1", product)?;
            db.execute(
                "INSERT INTO lines (\"order\", product, amount) VALUES (?1, ?2, ?3)",
                [id, product, stock],
            )?;
            let more = db
                .execute("INSERT INTO lines (\"order\", product, amount) VALUES (?1, ?2, 1)", [id, product]);
            ensure(more.is_err(), "what isn't there can't be sold")?;
            ensure(number(db, "SELECT stock FROM products WHERE id = ?1", product)? == 0, "all was sold")?;
            db.execute("INSERT INTO journal (what, subject) VALUES ('sold out', ?1)", [product])?;
            Ok(())
        }
        2 => {
            let customer = 1 + id % CUSTOMERS;
            let orders = number(db, "SELECT count(*) FROM orders WHERE customer = ?1", customer)?;
            let gone = db.execute("DELETE FROM customers WHERE id = ?1", [customer])?;
            ensure(gone == 1 && orders > 0, "there was such a customer")?;
            ensure(
                number(db, "SELECT count(*) FROM orders WHERE customer = ?1", customer)? == 0,
                "orders go too",
            )?;
            let left = number(db, "SELECT count(*) FROM lines WHERE \"order\" > ?1", 0)?;
            ensure(left == (ORDERS - orders) * 3, "and their lines")
        }
        3 => {
            let same = db
                .execute("INSERT INTO customers VALUES (?1, 'twin', 'c1@example.org', 0)", [CUSTOMERS + id]);
            ensure(same.is_err(), "an address is one customer's")?;
            let none = db.execute("INSERT INTO orders (customer) VALUES (?1)", [CUSTOMERS + id]);
            ensure(none.is_err(), "an order has a customer")?;
            db.execute("UPDATE products SET price = price + 1 WHERE id % 10 = ?1", [id % 10])?;
            ensure(number(db, "SELECT count(*) + 0 * ?1 FROM turnover", 0)? > 0, "there is turnover")
        }
        _ => {
            db.execute_batch("BEGIN; DELETE FROM lines; SAVEPOINT s; DELETE FROM orders; ROLLBACK TO s; UPDATE products SET stock = 1")?;
            ensure(number(db, "SELECT count(*) + 0 * ?1 FROM lines", 0)? == 0, "deleted")?;
            db.execute_batch("ROLLBACK")?;
            ensure(number(db, "SELECT count(*) + 0 * ?1 FROM lines", 0)? == ORDERS * 3, "and taken back")?;
            db.execute("INSERT INTO journal (what, subject) VALUES ('tried', ?1)", [id])?;
            Ok(())
        }
    }
}
