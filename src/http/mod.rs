//! The HTTP surface: routes, callers, problems, events, OpenAPI and the page.
