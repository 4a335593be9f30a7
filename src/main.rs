//! The `tandem` command. Everything it does is in [`tandem::cli`].

use std::process::ExitCode;

/// Rows are made by one thread and let go by another, many small pieces each. The C library's own allocator spends a fifth of a node's
/// processor time on that; docs/performance.md has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tandem::cli::main()
}
