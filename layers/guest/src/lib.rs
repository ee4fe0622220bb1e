//! PID 1 of the standby disk, and the supervisor of front and runtime.
//!
//! `boot` holds what only PID 1 does; `supervise`, `container`, `net` and
//! `state_server` know nothing of it and serve on an existing host as well.

pub mod boot;
pub mod clock;
pub mod console;
pub mod container;
pub mod http;
pub mod net;
pub mod phases;
pub mod state_server;
pub mod supervise;
mod sys;
pub mod trace;
