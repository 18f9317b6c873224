//! `lvmed serve`: starts everything in order and stops it in reverse.
