//! Raw file to checked settings.
