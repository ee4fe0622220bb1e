//! What several tests share; no test uses all of it.

#![allow(dead_code)]

pub mod facts;
pub mod nasty;
