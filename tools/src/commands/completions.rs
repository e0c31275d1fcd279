//! `heapdrift completions`

use std::io::{self, Write as _};

use crate::error::Error;
use crate::output::terminal;

/// Print the completion script of a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    heapdrift completions bash > ~/.local/share/bash-completion/completions/heapdrift\n  \
    heapdrift completions zsh > ~/.zfunc/_heapdrift\n  \
    heapdrift completions fish > ~/.config/fish/completions/heapdrift.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Prints the script that completes `command` in a shell.
pub(crate) fn run(args: &Args, mut command: clap::Command) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "heapdrift", &mut script);
    // Written as raw bytes: stripping colour codes must not touch a script.
    let mut out = io::stdout().lock();
    out.write_all(&script).and_then(|()| out.flush()).map_err(terminal::stdout_failed)
}
