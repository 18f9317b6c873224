//! Reading rows: text columns that hold domain words, integers that are counts.

use std::fmt::Display;
use std::str::FromStr;

use sqlx::Row;
use sqlx::postgres::PgRow;

/// A column that holds a word, digest or name of the domain.
pub(super) fn parsed<T>(row: &PgRow, column: &str) -> sqlx::Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    let text: String = row.try_get(column)?;
    text.parse().map_err(|error| unreadable(column, error))
}

/// A column that may be null and else holds a word of the domain.
pub(super) fn parsed_option<T>(row: &PgRow, column: &str) -> sqlx::Result<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|error| unreadable(column, error))).transpose()
}

/// A `jsonb` column that holds a value of the domain.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &PgRow, column: &str) -> sqlx::Result<T> {
    let value: sqlx::types::Json<T> = row.try_get(column)?;
    Ok(value.0)
}

/// A count, never negative.
pub(super) fn count(row: &PgRow, column: &str) -> sqlx::Result<u64> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|error| unreadable(column, error))
}

/// A small count, never negative.
pub(super) fn small(row: &PgRow, column: &str) -> sqlx::Result<u32> {
    let number: i32 = row.try_get(column)?;
    u32::try_from(number).map_err(|error| unreadable(column, error))
}

/// A name.
pub(super) fn name(row: &PgRow, column: &str) -> sqlx::Result<crate::domain::name::Name> {
    Ok(crate::domain::name::Name::stored(row.try_get(column)?))
}

fn unreadable(column: &str, error: impl Display) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.to_string().into() }
}

/// Whether the database refused because a row that is referred to was deleted, or one that was to be
/// deleted is referred to.
pub(super) fn is_gone(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation)
}

/// Whether the database refused a row because a unique index already holds its key.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
