//! The TLS reverse proxy's own small image: Caddy, its Caddyfile, its pages.
//!
//! A binary is checked ([`elf::check`]) and laid into a layer
//! ([`layer::write`]) with an image configuration ([`image::configuration`]).
//! For a front that comes as an image, the same layer without a binary goes on
//! top of it, and its configuration is changed in the same way.

pub mod caddyfile;
pub mod elf;
pub mod image;
pub mod layer;
pub mod validate;
pub mod version;

/// The page shown while the service does not answer, unless the plan has its own.
pub const MAINTENANCE: &str = include_str!("maintenance.html");

/// Caddy, in the front's image.
pub const CADDY: &str = "/usr/bin/caddy";
/// Its Caddyfile, in the front's image.
pub const CADDYFILE: &str = "/etc/caddy/Caddyfile";
/// The folder of the maintenance page, in the front's image.
pub const PAGES: &str = "/usr/share/standby";
/// The CA certificates, where Go programs look first.
pub const CA_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How Caddy is started: the front's whole command line.
pub fn arguments(program: &str) -> Vec<String> {
    [
        program,
        "run",
        "--config",
        CADDYFILE,
        "--adapter",
        "caddyfile",
    ]
    .map(str::to_owned)
    .to_vec()
}
