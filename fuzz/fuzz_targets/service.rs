//! The guest's service table, and HTTP as it speaks it.

#![no_main]

use standby_contract::service::{Prefix, ServiceTable};
use standby_guest::http;

standby_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    if let Ok(table) = serde_json::from_slice::<ServiceTable>(data) {
        let bytes = serde_json::to_vec(&table).expect("JSON");
        let again: ServiceTable =
            serde_json::from_slice(&bytes).expect("what was written can be read");
        assert_eq!(again, table);
        let _ = table.runtime.address();
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(prefix) = text.parse::<Prefix>()
    {
        let again = String::from(prefix).parse();
        assert_eq!(again, Ok(prefix));
    }
    if let Ok(request) = http::parse_request(data) {
        assert!(request.path.starts_with('/') && !request.path.contains('?'));
    }
    if let Ok(status) = http::parse_status(data) {
        assert!((100..600).contains(&status));
    }
    assert!(http::head_length(data).is_none_or(|length| length <= data.len()));
}

fn seeds() -> Vec<Vec<u8>> {
    standby_fuzz::texts([
        r#"{"name":"x","version":"1","sequence":1,"created":"2026-01-31T12:00:00Z","snapshot_taken":1,"signer":null,"network":{"mode":"dhcp"},"runtime":{"port":8080,"health":"/","isolated":true},"front":{"hosts":["x.example.org"]}}"#,
        r#"{"name":"x","version":"1","sequence":1,"created":"","snapshot_taken":1,"signer":{"fingerprint":"AB","user_id":"x"},"network":{"mode":"static","mac":"52:54:00:12:34:56","addresses":["192.0.2.10/24","2001:db8::10/64"],"gateways":["fe80::1"],"dns":["192.0.2.53"]},"runtime":{"port":8080,"health":"/","isolated":false},"front":{"hosts":[]}}"#,
        "2001:db8::10/64",
        "GET /-/standby?x HTTP/1.1\r\nHost: x\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ])
}
