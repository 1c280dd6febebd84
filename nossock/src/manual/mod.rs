//! Pages about the whole: not needed to use the crate, and good to know when something surprises.

pub mod compatibility {
    #![doc = include_str!("compatibility.md")]
}
