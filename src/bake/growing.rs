//! The bundle while it is written: what is known gets its place, and layers are
//! filled in by whoever reads them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::bake::error::BakeError;
use crate::bundle::archive::Writer;
use crate::bundle::component::{Component, Subject};
use crate::bundle::contents::Contents;
use crate::oci::Digest;
use crate::oci::image::Layer;

/// A bundle in an empty file.
#[derive(Debug)]
pub struct Growing {
    file: Arc<File>,
    contents: Contents,
    writer: Writer,
}

impl Growing {
    /// Nothing in it yet.
    pub fn new(file: Arc<File>) -> Self {
        let writer = Writer::new(Arc::clone(&file), 0);
        Growing {
            file,
            contents: Contents::new(),
            writer,
        }
    }

    /// The file, for those who fill in layers.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Appends a component. Layers among `later` get their place only; it is
    /// returned, for whoever reads them.
    pub fn component(
        &mut self,
        component: &Component,
        later: &[Layer],
    ) -> Result<HashMap<Digest, u64>, BakeError> {
        self.contents.component(component)?;
        let mut places = HashMap::new();
        for item in self.contents.take() {
            let is_later = |d: &Digest| later.iter().any(|layer| layer.digest == *d);
            match item.digest.filter(is_later) {
                Some(digest) => {
                    places.insert(digest, self.writer.reserve(&item).map_err(failed)?);
                }
                None => self.writer.append(&item).map_err(failed)?,
            }
        }
        Ok(places)
    }

    /// Appends statement, signatures and index; returns the bundle's length.
    pub fn finish(
        mut self,
        statement: &[u8],
        runtime: &Subject,
        signatures: &[Vec<u8>],
    ) -> Result<u64, BakeError> {
        self.contents.statement(statement, runtime)?;
        for packet in signatures {
            self.contents.signature(packet)?;
        }
        self.contents.finish()?;
        for item in self.contents.take() {
            self.writer.append(&item).map_err(failed)?;
        }
        self.writer.finish().map_err(failed)
    }
}

fn failed(source: io::Error) -> BakeError {
    BakeError::write("the bundle")(source)
}
