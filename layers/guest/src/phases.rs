//! When each phase of the boot ended.

use std::sync::{Arc, Mutex, PoisonError};

use standby_contract::state::Phase;

use crate::clock;

/// The phases so far; a clone is the same list.
#[derive(Clone, Default)]
pub struct Phases(Arc<Mutex<Vec<Phase>>>);

impl Phases {
    /// A phase ended now; only its first end counts.
    pub fn mark(&self, name: &str) {
        let ms = clock::milliseconds();
        let mut phases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if phases.iter().all(|phase| phase.name != name) {
            phases.push(Phase {
                name: name.to_owned(),
                ms,
            });
        }
    }

    /// All that ended, in that order.
    pub fn list(&self) -> Vec<Phase> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
