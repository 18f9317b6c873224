//! The schema, made once on a Postgres and cloned for each test, whichever process it runs in.

use lvmed::domain::Sha256;
use lvmed::store::{MIGRATIONS, connect};
use sqlx::{Connection, PgConnection};

use super::of_database;

/// Held by everybody who clones, together, and by whoever makes the template, alone.
const LOCK: i64 = 0x6c76_6d65_6400;
/// The prefix of the names of templates; they go on with a digest of the migrations.
const PREFIX: &str = "lvmed_template_";

/// Makes a database with the schema of today and no rows. `administration` is where to connect for that.
pub(super) async fn clone(administration: &str, name: &str) {
    let template = current();
    let mut connection = PgConnection::connect(administration).await.expect("Postgres answers");
    loop {
        run(&mut connection, format!("select pg_advisory_lock_shared({LOCK})")).await;
        if all(&mut connection).await.contains(&template) {
            break;
        }
        run(&mut connection, format!("select pg_advisory_unlock_shared({LOCK})")).await;
        make(administration, &template).await;
    }
    run(&mut connection, format!("create database {name} template {template}")).await;
    // The lock ends with it.
    connection.close().await.expect("the connection ends");
}

/// The template of these migrations.
fn current() -> String {
    let checksums: Vec<u8> =
        MIGRATIONS.iter().flat_map(|migration| migration.checksum.iter().copied()).collect();
    format!("{PREFIX}{}", &Sha256::of(&checksums).to_string()[..16])
}

/// Makes the template unless somebody else has made it meanwhile, and removes those of other schemas.
async fn make(administration: &str, template: &str) {
    let mut connection = PgConnection::connect(administration).await.expect("Postgres answers");
    run(&mut connection, format!("select pg_advisory_lock({LOCK})")).await;
    let found = all(&mut connection).await;
    if !found.iter().any(|name| name == template) {
        for old in found {
            run(&mut connection, format!("drop database if exists {old} with (force)")).await;
        }
        // It has its name once it is whole: who makes it may be killed.
        let making = format!("{template}_making");
        run(&mut connection, format!("create database {making}")).await;
        let pool = connect(&of_database(administration, &making), 1).await;
        pool.expect("the schema is made").close().await;
        run(&mut connection, format!("alter database {making} rename to {template}")).await;
    }
    connection.close().await.expect("the connection ends");
}

/// The templates that are there, unfinished ones among them.
async fn all(connection: &mut PgConnection) -> Vec<String> {
    let names = "select datname::text from pg_database where starts_with(datname::text, $1)";
    let found = sqlx::query_scalar(names).bind(PREFIX).fetch_all(connection).await;
    found.expect("the databases are listed")
}

async fn run(connection: &mut PgConnection, statement: String) {
    let ran = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(connection).await;
    ran.expect("the statement runs");
}
