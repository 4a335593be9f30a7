//! DECIDES how changes reach a target.
