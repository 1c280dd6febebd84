//! Examples, to be read in order.
