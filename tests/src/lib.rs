//! Helpers of the stories that run over the public API.
