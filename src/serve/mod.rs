//! SHOWS and takes orders over HTTP.

pub mod hub;
