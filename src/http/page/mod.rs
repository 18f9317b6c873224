//! The pages that people look at: the web page, the API's document, and Swagger UI over it.

pub mod docs;
pub mod files;
pub mod openapi;
