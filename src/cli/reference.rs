//! `standby reference`: the command line's own description, for docs/cli.md and
//! the manual pages.

use std::path::PathBuf;

use clap::Args;

use crate::cli::work::make_folder;
use crate::cli::{command, output};
use crate::error::{IoContext, Result};
use crate::ui::Ui;

/// Print the command line's reference as Markdown, or write manual pages
#[derive(Args, Debug)]
pub struct ReferenceArgs {
    /// Write manual pages (section 1) into this folder instead
    #[arg(long, value_name = "DIR")]
    man: Option<PathBuf>,
}

impl ReferenceArgs {
    /// Runs the verb.
    pub fn run(&self, ui: &Ui) -> Result {
        let mut command = command().term_width(96);
        command.build();
        match &self.man {
            Some(folder) => {
                make_folder(folder)?;
                pages(&command, "standby", folder)
            }
            None => {
                ui.raw(&markdown(command));
                Ok(())
            }
        }
    }
}

/// Every verb with its help, in the order of the help.
fn markdown(command: clap::Command) -> String {
    let mut text = String::from(
        "# The command line\n\nWritten by `make docs` from the program itself.\n\n\
         Results go to standard output, all else to standard error. Exit codes: 0 done; 1 the \
         input or the\nenvironment is at fault; 2 the command line is; 3 not trusted; 4 two bundles \
         differ (diff --exit-code);\n70 a fault of the program.\n",
    );
    section(command, "standby", &mut text);
    text
}

fn section(mut command: clap::Command, name: &str, text: &mut String) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!(
        "\n## {name}\n\n```text\n{}\n```\n",
        help.join("\n").trim_end()
    ));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        section(verb.clone(), &format!("{name} {}", verb.get_name()), text);
    }
}

fn pages(command: &clap::Command, name: &str, folder: &std::path::Path) -> Result {
    let mut page = Vec::new();
    let title = clap_mangen::Man::new(command.clone()).title(name.to_owned());
    title
        .render(&mut page)
        .because("cannot write a manual page")?;
    output::write(&folder.join(format!("{name}.1")), &page, true)?;
    for verb in command.get_subcommands() {
        pages(verb, &format!("{name}-{}", verb.get_name()), folder)?;
    }
    Ok(())
}
