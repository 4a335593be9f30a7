//! SHOWS and takes orders over HTTP.
