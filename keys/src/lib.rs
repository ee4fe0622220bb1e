//! Trust: certificates, signing, verification.
