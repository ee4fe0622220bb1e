//! `standby init`: a plan to begin with.

use std::path::PathBuf;

use clap::Args;

use crate::cli::output;
use crate::error::Result;
use crate::plan::TEMPLATE;
use crate::ui::Ui;

/// Write a commented standby.toml to begin with
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  standby init -o standby.toml")]
pub struct InitArgs {
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "standby.toml")]
    output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

impl InitArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        output::write(&self.output, TEMPLATE.as_bytes(), self.force)?;
        ui.value(&serde_json::json!({"plan": self.output}));
        ui.line(format!(
            "{}: fill it in, then 'standby build'",
            self.output.display()
        ));
        Ok(())
    }
}
