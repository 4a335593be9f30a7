//! DECIDES what is published.
