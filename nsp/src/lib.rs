//! NSP, the NoService Protocol.
