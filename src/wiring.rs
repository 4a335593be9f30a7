//! The one file that names concrete sources, topics and targets.
