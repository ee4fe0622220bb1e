//! Asking the runtime whether it is healthy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use standby_contract::service::Runtime;

use super::Event;
use crate::http::get_status;

/// Between two questions until the first good answer.
const EAGER: Duration = Duration::from_millis(250);
/// Between two questions after that.
const CALM: Duration = Duration::from_secs(2);
/// Where the front speaks TLS.
const FRONT_PORT: u16 = 443;
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks for ever; ends when nobody listens to the answers any more.
pub fn watch(runtime: &Runtime, events: &Sender<Event>) {
    let address = SocketAddr::new(IpAddr::V4(runtime.address()), runtime.port);
    let mut pause = EAGER;
    loop {
        let found = match get_status(address, &runtime.health, PATIENCE) {
            Ok(status) if is_healthy(status) => Ok(()),
            Ok(status) => Err(format!("status {status}")),
            Err(error) => Err(error.to_string()),
        };
        let found = found.map_err(|why| {
            let (path, port) = (&runtime.health, runtime.port);
            format!("GET {path} on port {port}: {why}")
        });
        if found.is_ok() {
            pause = CALM;
        }
        if events.send(Event::Health(found)).is_err() {
            return;
        }
        std::thread::sleep(pause);
    }
}

/// Waits until the front takes connections, at most this long; whether it does. It
/// shares the network of whoever supervises it.
pub fn wait_for_front(most: Duration) -> bool {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), FRONT_PORT);
    let start = Instant::now();
    while start.elapsed() < most {
        if TcpStream::connect_timeout(&address, PATIENCE).is_ok() {
            return true;
        }
        std::thread::sleep(EAGER);
    }
    false
}

/// 2xx and 3xx.
fn is_healthy(status: u16) -> bool {
    (200..400).contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_statuses() {
        assert!([200, 204, 301, 399].into_iter().all(is_healthy));
        assert!(![100, 199, 400, 503].into_iter().any(is_healthy));
    }
}
