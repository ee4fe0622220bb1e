//! What the layers and the guest are told of a plan.

use std::net::SocketAddrV4;

use standby_contract::service::{self, ServiceTable, Signer};
use standby_front::caddyfile;
use standby_runtime::{FrontSettings, Settings};

use super::model::{Plan, RuntimeNetwork};
use super::time::Timestamp;

impl Plan {
    /// What the runtime's container is made from, beside its image.
    pub fn runtime_settings(&self) -> Settings {
        let runtime = &self.runtime;
        Settings {
            hostname: self.service.name.clone(),
            env: runtime.env.clone(),
            args: runtime.args.clone(),
            user: runtime.user.as_ref().map(|user| user.value.clone()),
            port: runtime.port,
            writable: runtime.writable.clone(),
            snapshot_mount: self.snapshot.mount.clone(),
            isolated: runtime.network == RuntimeNetwork::Isolated,
            memory: runtime.memory,
            milli_cpus: runtime.milli_cpus,
        }
    }

    /// What the front's container is made from; `program` is Caddy in its image.
    pub fn front_settings(&self, program: &str) -> FrontSettings {
        let upstream = SocketAddrV4::new(self.table_runtime().address(), self.runtime.port);
        FrontSettings {
            args: standby_front::arguments(program),
            upstream: upstream.to_string(),
        }
    }

    /// What the generated Caddyfile depends on.
    pub fn caddyfile_settings(&self) -> caddyfile::Settings<'_> {
        caddyfile::Settings::new(&self.front.hosts, self.runtime.port)
    }

    /// The guest's table. `created` and `taken` are the plan's own times or, where it
    /// has none, the caller's.
    pub fn service_table(
        &self,
        created: Timestamp,
        taken: Timestamp,
        signer: Option<Signer>,
    ) -> ServiceTable {
        ServiceTable {
            name: self.service.name.clone(),
            version: self.service.version.clone(),
            sequence: self.service.sequence,
            created: created.to_string(),
            snapshot_taken: taken.seconds(),
            signer,
            network: self.network.clone(),
            runtime: self.table_runtime(),
            front: service::Front {
                hosts: self.front.hosts.clone(),
            },
        }
    }

    fn table_runtime(&self) -> service::Runtime {
        service::Runtime {
            port: self.runtime.port,
            health: self.runtime.health.clone(),
            isolated: self.runtime.network == RuntimeNetwork::Isolated,
        }
    }
}
